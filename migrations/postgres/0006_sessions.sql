-- Ended sessions of one key are read with every change of it: no more of them are kept than a node remembers. And what
-- only some batches need is asked once for each batch, not once for each change.

-- commit_changes for a node that has seen revisions up to `seen`, and with the batch's tag.
CREATE OR REPLACE FUNCTION commit_changes_after(batch jsonb, session_memory double precision, seen bigint)
RETURNS TABLE (out_place integer, out_revision bigint, out_entry bigint, out_at double precision, out_tag bigint)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
SET lock_timeout = '500ms'
AS $$
DECLARE
    revives boolean := batch @> '[{"kind": "revive"}]';
    ends    boolean := jsonb_path_exists(batch, '$[*].body.ended_session ? (@ != null)');
    ended   record;
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
        IF revives AND out_revision IS NOT NULL AND batch->out_place->>'kind' = 'revive' THEN
            UPDATE leases l
            SET beat_at = l.beat_at - (batch->out_place->'body'->>'waited_ms')::bigint * interval '1 millisecond'
            WHERE l.id = out_entry AND batch->out_place->'body' ? 'waited_ms';
        END IF;
        RETURN NEXT;
    END LOOP;

    -- Key by key: each is looked up through the index, however many rows there are by then.
    IF ends AND out_tag IS NOT NULL THEN
        FOR ended IN
            SELECT b.item->'body'->>'service_name' AS service, b.item->'body'->>'instance_id' AS instance
            FROM jsonb_array_elements(batch) b(item) WHERE b.item->'body'->>'ended_session' IS NOT NULL
        LOOP
            DELETE FROM ended_sessions e
            WHERE e.service = ended.service AND e.instance = ended.instance
              AND e.at < (SELECT o.at FROM ended_sessions o
                          WHERE o.service = ended.service AND o.instance = ended.instance
                          ORDER BY o.at DESC OFFSET 63 LIMIT 1);
        END LOOP;
    END IF;
END
$$;
