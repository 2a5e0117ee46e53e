-- Append events to several users' streams. Return a row for each event: n is its position, and the rest is as
-- daybook_append (daybook_append.sql) returns it. No stream is waited for.
--
-- Each user's events must be adjacent, and users in the order of their keys. All events are first written together, by
-- one statement for each table, which is several times cheaper than one by one. If that fails, because one of them
-- can't be written, nothing of it is kept, and daybook_append writes each event on its own.
CREATE FUNCTION daybook_append_many(
    p_user_id text[],           -- one element for each event, here and below
    p_digest bytea[],           -- from here on, one element for each event
    p_id uuid[],
    p_task_id uuid[],
    p_version integer[],
    p_type text[],
    p_at timestamptz[],
    p_actor text[],
    p_data jsonb[],
    p_request_id text[],
    p_client_address text[],
    p_client_agent text[],
    p_idempotency_key text[],
    p_fingerprint bytea[],
    p_salt bytea[],
    p_after bigint[],           -- the number of the event that must be the stream's last; null: any
    p_on_row boolean[],         -- the event was decided on the task's row, so a deletion must find it
    p_deleted boolean[],        -- the task is deleted; else, its row from here on
    p_created_at timestamptz[],
    p_completed boolean[],
    p_title_key text[],
    p_search_text text[],
    p_document text[],
    p_priority smallint[] DEFAULT NULL, -- from here on, columns that callers of an older release don't know
    p_due_date text[] DEFAULT NULL,
    p_tags text[] DEFAULT NULL,
    p_completed_at timestamptz[] DEFAULT NULL
) RETURNS TABLE (n bigint, seq bigint, hash bytea, outcome text, message text)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    users text[];
    last_seqs bigint[];
    last_hashes bytea[];
    seqs bigint[] := '{}';
    hashes bytea[] := '{}';
    deletions bigint;
    together boolean;
    j integer;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    SELECT pg_catalog.array_agg(held.user_id), pg_catalog.array_agg(held.seq), pg_catalog.array_agg(held.hash)
    INTO users, last_seqs, last_hashes
    FROM (
        SELECT s.user_id, s.seq, s.hash FROM streams AS s WHERE s.user_id = ANY (p_user_id)
        ORDER BY s.user_id FOR UPDATE SKIP LOCKED
    ) AS held;
    BEGIN
        FOR i IN 1 .. pg_catalog.cardinality(p_id) LOOP
            j := pg_catalog.array_position(users, p_user_id[i]);
            IF p_after[i] <> last_seqs[j] THEN
                RAISE SQLSTATE 'LG005';
            END IF;
            IF j IS NOT NULL THEN
                last_seqs[j] := last_seqs[j] + 1;
                last_hashes[j] := sha256(last_hashes[j] || p_digest[i]);
            END IF;
            seqs[i] := last_seqs[j]; -- null without a stream
            hashes[i] := last_hashes[j];
        END LOOP;
        INSERT INTO events (
            user_id, seq, hash, id, task_id, version, type, at, actor, data,
            request_id, client_address, client_agent, idempotency_key, fingerprint, salt
        )
        SELECT e.user_id, e.seq, e.hash, e.id, e.task_id, e.version, e.type, e.at, e.actor, e.data,
            e.request_id, e.client_address, e.client_agent, e.idempotency_key, e.fingerprint, e.salt
        FROM unnest(
            p_user_id, seqs, hashes, p_id, p_task_id, p_version, p_type, p_at, p_actor, p_data,
            p_request_id, p_client_address, p_client_agent, p_idempotency_key, p_fingerprint, p_salt
        ) AS e (
            user_id, seq, hash, id, task_id, version, type, at, actor, data,
            request_id, client_address, client_agent, idempotency_key, fingerprint, salt
        )
        WHERE e.seq IS NOT NULL;
        INSERT INTO tasks AS t (
            user_id, id, version, completed, priority, due_date, tags, created_at, updated_at, completed_at,
            title_key, search_text, document
        )
        SELECT e.user_id, e.id, e.version, e.completed, e.priority, e.due_date, e.tags, e.created_at, e.at,
            e.completed_at, e.title_key, e.search_text, e.document
        FROM unnest(
            p_user_id, seqs, p_deleted, p_task_id, p_version, p_completed, p_priority, p_due_date, p_tags,
            p_created_at, p_at, p_completed_at, p_title_key, p_search_text, p_document
        ) AS e (
            user_id, seq, deleted, id, version, completed, priority, due_date, tags,
            created_at, at, completed_at, title_key, search_text, document
        )
        WHERE e.seq IS NOT NULL AND NOT e.deleted
        ON CONFLICT (user_id, id) DO UPDATE SET
            version = excluded.version, completed = excluded.completed, priority = excluded.priority,
            due_date = excluded.due_date, tags = excluded.tags, completed_at = excluded.completed_at,
            created_at = excluded.created_at, updated_at = excluded.updated_at,
            title_key = excluded.title_key, search_text = excluded.search_text,
            document = excluded.document;
        IF true = ANY (p_deleted) THEN
            WITH gone AS (
                DELETE FROM tasks AS t
                USING unnest(p_user_id, seqs, p_deleted, p_on_row, p_task_id) AS e (user_id, seq, deleted, on_row, id)
                WHERE t.user_id = ANY (p_user_id) AND t.user_id = e.user_id AND t.id = e.id
                    AND e.deleted AND e.seq IS NOT NULL
                RETURNING e.on_row
            )
            SELECT count(*) FILTER (WHERE gone.on_row) INTO deletions FROM gone;
            IF deletions <> (
                SELECT count(*) FROM unnest(seqs, p_deleted, p_on_row) AS e (seq, deleted, on_row)
                WHERE e.deleted AND e.on_row AND e.seq IS NOT NULL
            ) THEN
                RAISE SQLSTATE 'LG004';
            END IF;
        END IF;
        together := true;
    EXCEPTION WHEN OTHERS THEN
        together := false;
    END;
    IF together THEN
        UPDATE streams AS s SET seq = e.seq, hash = e.hash
        FROM unnest(users, last_seqs, last_hashes) AS e (user_id, seq, hash)
        WHERE s.user_id = e.user_id AND s.user_id = ANY (users);
        RETURN QUERY
        SELECT e.n, e.seq, e.hash, CASE WHEN e.seq IS NULL THEN 'LG001' END, NULL::text
        FROM unnest(seqs, hashes) WITH ORDINALITY AS e (seq, hash, n);
        RETURN;
    END IF;
    RETURN QUERY
    SELECT w.first + a.n - 1, a.seq, a.hash, a.outcome, a.message
    FROM (
        SELECT e.user_id, min(e.n) AS first, max(e.n) AS last
        FROM pg_catalog.unnest(p_user_id) WITH ORDINALITY AS e (user_id, n) GROUP BY e.user_id ORDER BY e.user_id
    ) AS w, LATERAL daybook_append(
        p_user_id => w.user_id, p_wait => false,
        p_digest => p_digest[w.first:w.last], p_id => p_id[w.first:w.last], p_task_id =>
        p_task_id[w.first:w.last], p_version => p_version[w.first:w.last], p_type => p_type[w.first:w.last],
        p_at => p_at[w.first:w.last], p_actor => p_actor[w.first:w.last], p_data => p_data[w.first:w.last],
        p_request_id => p_request_id[w.first:w.last], p_client_address => p_client_address[w.first:w.last],
        p_client_agent => p_client_agent[w.first:w.last], p_idempotency_key =>
        p_idempotency_key[w.first:w.last], p_fingerprint => p_fingerprint[w.first:w.last], p_salt =>
        p_salt[w.first:w.last], p_after => p_after[w.first:w.last], p_on_row => p_on_row[w.first:w.last],
        p_deleted => p_deleted[w.first:w.last], p_created_at => p_created_at[w.first:w.last], p_completed =>
        p_completed[w.first:w.last], p_title_key => p_title_key[w.first:w.last], p_search_text =>
        p_search_text[w.first:w.last], p_document => p_document[w.first:w.last],
        p_priority => p_priority[w.first:w.last], p_due_date => p_due_date[w.first:w.last],
        p_tags => p_tags[w.first:w.last], p_completed_at => p_completed_at[w.first:w.last]
    ) WITH ORDINALITY AS a (seq, hash, outcome, message, n);
END
$$;
