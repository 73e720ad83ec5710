-- The store. Nodes of two versions run on it at once during an upgrade, and an older one again after a roll-back:
-- a later migration adds, and never changes the meaning of a table, a column or a function that is here.

-- The last revision. Its row is the lock that puts commits in order.
CREATE TABLE head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint  NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO head (revision) VALUES (0);

-- Owned by no table, so that TRUNCATE … RESTART IDENTITY leaves it: an id is never used again.
CREATE SEQUENCE entry_ids AS bigint;

CREATE TABLE instances (
    id               bigint PRIMARY KEY DEFAULT nextval('entry_ids'),
    service          text   COLLATE "C" NOT NULL,
    instance         text   COLLATE "C" NOT NULL,
    endpoint         text   NOT NULL,
    health_endpoint  text   NOT NULL,
    metadata         jsonb  NOT NULL,
    ttl              integer NOT NULL,
    session          text,
    status           text   NOT NULL,
    output           text,
    operator_drain   text,
    session_drain    text,
    registered_at    double precision NOT NULL,
    observed_address text,
    revision         bigint NOT NULL,
    UNIQUE (service, instance)
) WITH (fillfactor = 85);

-- Narrow, half empty and without an index but its key: a beat is then a HOT update, which writes no index.
-- beat_at is for people, and for how long ago the last beat was when a node starts.
CREATE TABLE leases (
    id      bigint      PRIMARY KEY,
    beat    bigint      NOT NULL,
    beat_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Membership: gapless, in the order of commit. tag is drawn anew for each batch: another tag at a revision that was
-- read before says that the store went back in time.
CREATE TABLE changes (
    revision bigint      PRIMARY KEY,
    tag      bigint      NOT NULL,
    at       timestamptz NOT NULL,
    kind     text        NOT NULL,
    service  text        COLLATE "C" NOT NULL,
    instance text        COLLATE "C" NOT NULL,
    entry_id bigint      NOT NULL,
    reason   text,
    actor    text,
    body     jsonb       NOT NULL
);
CREATE INDEX changes_expired ON changes (entry_id) WHERE kind = 'expire';
CREATE INDEX changes_gone ON changes (revision) WHERE kind IN ('deregister', 'expire');

CREATE TABLE ended_sessions (
    service  text        COLLATE "C" NOT NULL,
    instance text        COLLATE "C" NOT NULL,
    session  text        COLLATE "C" NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (service, instance, session)
);
CREATE INDEX ended_sessions_at ON ended_sessions (at);

-- Beats: one row a tick and writer, its ids empty or not.
CREATE TABLE beats (
    writer bigint   NOT NULL,
    seq    bigint   NOT NULL,
    ids    bigint[] NOT NULL,
    PRIMARY KEY (writer, seq)
);
-- Compressing ids costs more time than it saves space.
ALTER TABLE beats ALTER COLUMN ids SET STORAGE EXTERNAL;

-- The last row of each writer, kept when the rows are trimmed: an empty log is not a trimmed one.
CREATE TABLE writers (
    writer bigint      PRIMARY KEY,
    seq    bigint      NOT NULL,
    at     timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One batch of mutations in one transaction and one round trip, so that the revision lock is never held while a client
-- thinks. Each element of batch: kind, beats, removes, expected, named, noted, reason, actor, body. Gives a row for
-- each change, or rows without a revision for the places in conflict, and then has written nothing.
--
-- The planner settings: plans are made when the tables are empty and kept while they grow, and index scans are what
-- they must be then; and an index scan by a list of ids visits, and so locks, rows in the order of ids.
CREATE FUNCTION commit_changes(batch jsonb, session_memory double precision)
RETURNS TABLE (out_place integer, out_revision bigint, out_entry bigint, out_at double precision)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    base      bigint;
    moment    timestamptz;
    drawn     bigint := (random() * 9007199254740992)::bigint;
    ids       bigint[];
    conflicts integer[];
    touched   bigint[];
    expiring  bigint[];
    noted     bigint[];
    ended     bigint[];
    removed   bigint[];
    passed    bigint[];
    written   bigint;
BEGIN
    -- A statement of its own: the snapshots of those that follow see all that was committed before the lock was got.
    SELECT h.revision INTO base FROM head h FOR UPDATE;
    IF NOT FOUND THEN
        -- The tables were emptied under us.
        INSERT INTO head (revision) SELECT coalesce(max(c.revision), 0) FROM changes c ON CONFLICT DO NOTHING;
        SELECT h.revision INTO base FROM head h FOR UPDATE;
    END IF;
    moment := clock_timestamp();

    -- LATERAL … LIMIT 1 and scalar sub-selects: looked up one by one through the index, never joined as a whole.
    SELECT array_agg(cur.id ORDER BY b.place),
           array_agg(b.place ORDER BY b.place) FILTER (WHERE
               cur.revision IS DISTINCT FROM (b.item->>'expected')::bigint
               OR (b.item->>'named' IS NOT NULL AND (
                   SELECT true FROM ended_sessions e
                   WHERE e.service = b.item->'body'->>'service_name' AND e.instance = b.item->'body'->>'instance_id'
                     AND e.session = b.item->>'named' AND e.at > moment - make_interval(secs => session_memory)
                   LIMIT 1) IS NOT NULL)),
           array_agg(cur.id) FILTER (WHERE cur.id IS NOT NULL
               AND ((b.item->>'beats')::boolean OR (b.item->>'removes')::boolean)),
           array_agg(cur.id ORDER BY b.place) FILTER (WHERE b.item->>'kind' = 'expire'),
           array_agg((b.item->>'noted')::bigint ORDER BY b.place) FILTER (WHERE b.item->>'kind' = 'expire'),
           array_agg(cur.id) FILTER (WHERE b.item->>'kind' <> 'expire' AND (b.item->>'removes')::boolean)
    INTO ids, conflicts, touched, expiring, noted, removed
    FROM jsonb_array_elements(batch) WITH ORDINALITY b(item, place)
    LEFT JOIN LATERAL (
        SELECT i.id, i.revision FROM instances i
        WHERE i.service = b.item->'body'->>'service_name' AND i.instance = b.item->'body'->>'instance_id'
        LIMIT 1
    ) cur ON true;

    IF conflicts IS NOT NULL THEN
        RETURN QUERY SELECT c - 1, NULL::bigint, NULL::bigint, NULL::double precision FROM unnest(conflicts) c;
        RETURN;
    END IF;

    -- All leases of the batch in the order of ids, as write_beats takes them: no dead-lock. Once they are held, the
    -- next statement sees the beats of a batch that was not committed yet, which a join in a single statement would
    -- overlook.
    IF touched IS NOT NULL THEN
        PERFORM 1 FROM leases l WHERE l.id = ANY (touched) ORDER BY l.id FOR UPDATE;
    END IF;

    IF expiring IS NOT NULL THEN
        SELECT array_agg(x.id) FILTER (WHERE found.beat = x.noted),
               array_agg(x.id) FILTER (WHERE found.beat IS DISTINCT FROM x.noted)
        INTO ended, passed
        FROM unnest(expiring, noted) x(id, noted)
        LEFT JOIN LATERAL (SELECT l.beat FROM leases l WHERE l.id = x.id LIMIT 1) found ON true;
        removed := coalesce(removed, '{}') || coalesce(ended, '{}');
    END IF;

    IF removed IS NOT NULL THEN
        DELETE FROM leases l WHERE l.id = ANY (removed);
        DELETE FROM instances i WHERE i.id = ANY (removed);
    END IF;

    RETURN QUERY
    WITH item AS MATERIALIZED (
        SELECT b.item, b.item->'body' AS body, b.place::integer - 1 AS place,
               b.item->'body'->>'service_name' AS service, b.item->'body'->>'instance_id' AS instance,
               coalesce(b.id, nextval('entry_ids')) AS id,
               base + row_number() OVER (ORDER BY b.place) AS revision
        FROM ROWS FROM (jsonb_array_elements(batch), unnest(ids)) WITH ORDINALITY b(item, id, place)
        WHERE passed IS NULL OR b.id IS NULL OR b.id <> ALL (passed)
    ), put AS (
        INSERT INTO instances (id, service, instance, endpoint, health_endpoint, metadata, ttl, session, status, output,
            operator_drain, session_drain, registered_at, observed_address, revision)
        SELECT item.id, item.service, item.instance, body->>'endpoint', body->>'health_endpoint', body->'metadata',
               (body->>'ttl_seconds')::integer, body->>'session', body->>'status', body->>'output',
               body->>'operator_drain', body->>'session_drain', (body->>'registered_at')::double precision,
               body->>'observed_address', item.revision
        FROM item WHERE NOT (item.item->>'removes')::boolean
        ON CONFLICT (service, instance) DO UPDATE SET
            endpoint = excluded.endpoint, health_endpoint = excluded.health_endpoint, metadata = excluded.metadata,
            ttl = excluded.ttl, session = excluded.session, status = excluded.status, output = excluded.output,
            operator_drain = excluded.operator_drain, session_drain = excluded.session_drain,
            registered_at = excluded.registered_at, observed_address = excluded.observed_address,
            revision = excluded.revision
    ), leased AS (
        INSERT INTO leases AS l (id, beat, beat_at)
        SELECT item.id, 1, moment FROM item WHERE (item.item->>'beats')::boolean
        ON CONFLICT (id) DO UPDATE SET beat = l.beat + 1, beat_at = excluded.beat_at
    ), logged AS (
        INSERT INTO changes (revision, tag, at, kind, service, instance, entry_id, reason, actor, body)
        SELECT item.revision, drawn, moment, item.item->>'kind', item.service, item.instance, item.id,
               item.item->>'reason', item.item->>'actor', body
        FROM item
    ), remembered AS (
        INSERT INTO ended_sessions (service, instance, session, at)
        SELECT item.service, item.instance, body->>'ended_session', moment
        FROM item WHERE body->>'ended_session' IS NOT NULL
        ON CONFLICT (service, instance, session) DO UPDATE SET at = excluded.at
    )
    SELECT item.place, item.revision, item.id, extract(epoch FROM moment)::double precision FROM item;
    GET DIAGNOSTICS written = ROW_COUNT;

    IF written > 0 THEN
        UPDATE head SET revision = base + written;
        PERFORM pg_notify('registry_changes', (base + written)::text);
    END IF;
END
$$;

-- One tick's beats in one statement. ids sorted, each once. The index scan visits, and so locks, the leases in the
-- order of ids: two nodes' batches never dead-lock.
CREATE FUNCTION write_beats(from_writer bigint, number bigint, batch bigint[])
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
    beaten bigint;
    absent bigint[] := '{}';
BEGIN
    INSERT INTO beats (writer, seq, ids) VALUES (from_writer, number, batch) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT true, absent;
        RETURN;
    END IF;
    IF cardinality(batch) > 0 THEN
        UPDATE leases SET beat = beat + 1, beat_at = moment WHERE id = ANY (batch);
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
