-- An entry that is put back, because a beat had been acknowledged before it was removed, is as old as that beat: a node
-- that loads it must not take it for new.

-- commit_changes for a node that has seen revisions up to `seen`, and with the batch's tag.
CREATE OR REPLACE FUNCTION commit_changes_after(batch jsonb, session_memory double precision, seen bigint)
RETURNS TABLE (out_place integer, out_revision bigint, out_entry bigint, out_at double precision, out_tag bigint)
LANGUAGE plpgsql
SET lock_timeout = '500ms'
AS $$
BEGIN
    -- Takes the revision lock; without a loss it writes nothing.
    PERFORM begin_epoch(seen, false);
    FOR out_place, out_revision, out_entry, out_at IN
        SELECT d.out_place, d.out_revision, d.out_entry, d.out_at FROM commit_changes(batch, session_memory) d
    LOOP
        -- One tag for the batch. A statement of its own: it sees what the function before it wrote.
        IF out_tag IS NULL AND out_revision IS NOT NULL THEN
            SELECT c.tag INTO out_tag FROM changes c WHERE c.revision = out_revision;
        END IF;
        IF out_revision IS NOT NULL AND batch->out_place->>'kind' = 'revive' THEN
            UPDATE leases l
            SET beat_at = l.beat_at - (batch->out_place->'body'->>'waited_ms')::bigint * interval '1 millisecond'
            WHERE l.id = out_entry AND batch->out_place->'body' ? 'waited_ms';
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
