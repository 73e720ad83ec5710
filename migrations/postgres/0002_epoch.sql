-- A store that went back in time: an asynchronous fail-over, a restore, TRUNCATE. Whoever notices jumps with the
-- revision above everything it has seen, so that no revision is given twice to anybody who watches.

-- Brings the revision above `seen` if it is not there yet, by a row of kind 'epoch': the one gap that readers of the log
-- accept. Who knows of a loss (`lost`) always writes one: the revision may have come as far again by other changes than
-- the ones that were seen. Gives the revision after it.
CREATE FUNCTION begin_epoch(seen bigint, lost boolean)
RETURNS bigint
LANGUAGE plpgsql
SET lock_timeout = '500ms'
AS $$
DECLARE
    base bigint;
    raised bigint;
BEGIN
    SELECT h.revision INTO base FROM head h FOR UPDATE;
    IF NOT lost AND coalesce(base, 0) >= seen THEN
        RETURN coalesce(base, 0);
    END IF;
    -- Far above: another node may have shown more than this one has seen, as much as was committed while this one was
    -- about to read it.
    SELECT greatest(seen, base, max(c.revision)) + 10000 INTO raised FROM changes c;
    -- The row may be missing, and another node may be about to write it.
    INSERT INTO head AS h (revision) VALUES (raised)
    ON CONFLICT (one) DO UPDATE SET revision = excluded.revision WHERE h.revision < excluded.revision;
    IF NOT FOUND THEN
        SELECT h.revision INTO raised FROM head h;
        RETURN raised;
    END IF;
    INSERT INTO changes (revision, tag, at, kind, service, instance, entry_id, reason, body)
    VALUES (raised, (random() * 9007199254740992)::bigint, clock_timestamp(), 'epoch', '', '', 0,
            'the store went back in time', '{}');
    PERFORM pg_notify('registry_changes', raised::text);
    RETURN raised;
END
$$;

-- commit_changes for a node that has seen revisions up to `seen`, and with the batch's tag.
CREATE FUNCTION commit_changes_after(batch jsonb, session_memory double precision, seen bigint)
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
        RETURN NEXT;
    END LOOP;
END
$$;
