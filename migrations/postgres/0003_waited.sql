-- Beats that could not be written at once. A node acknowledges beats from memory and writes them later, after an outage
-- of the store much later: other nodes must not take them for new.

-- For how many milliseconds the youngest beat of the row had waited when the row was sent, on the writer's own clock.
ALTER TABLE beats ADD COLUMN waited integer NOT NULL DEFAULT 0;

DROP FUNCTION write_beats(bigint, bigint, bigint[]);

-- One tick's beats in one statement. ids sorted, each once. The index scan visits, and so locks, the leases in the
-- order of ids: two nodes' batches never dead-lock.
CREATE FUNCTION write_beats(from_writer bigint, number bigint, batch bigint[], since_youngest integer)
RETURNS TABLE (repeated boolean, missing bigint[])
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := clock_timestamp();
    beaten_at timestamptz := moment - since_youngest * interval '1 millisecond';
    beaten bigint;
    absent bigint[] := '{}';
BEGIN
    INSERT INTO beats (writer, seq, ids, waited) VALUES (from_writer, number, batch, since_youngest)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT true, absent;
        RETURN;
    END IF;
    IF cardinality(batch) > 0 THEN
        UPDATE leases SET beat = beat + 1, beat_at = beaten_at WHERE id = ANY (batch);
        GET DIAGNOSTICS beaten = ROW_COUNT;
        IF beaten < cardinality(batch) THEN
            SELECT coalesce(array_agg(b.id ORDER BY b.id), '{}') INTO absent
            FROM unnest(batch) b(id)
            WHERE (SELECT l.id FROM leases l WHERE l.id = b.id) IS NULL;
        END IF;
    END IF;
    INSERT INTO writers AS w (writer, seq, at) VALUES (from_writer, number, moment)
    ON CONFLICT (writer) DO UPDATE SET seq = greatest(w.seq, excluded.seq), at = excluded.at;
    PERFORM pg_notify('registry_beats', from_writer || ' ' || number);
    RETURN QUERY SELECT false, absent;
END
$$;
