-- What the migrations make, as pg_dump shows it, for readers: nothing runs it. `make schema` writes it anew.
-- The first partition of a table (events_p00, tasks_p00) stands for all.

CREATE FUNCTION daybook_append(p_user_id text, p_wait boolean, p_digest bytea[], p_id uuid[], p_task_id uuid[], p_version integer[], p_type text[], p_at timestamp with time zone[], p_actor text[], p_data jsonb[], p_request_id text[], p_client_address text[], p_client_agent text[], p_idempotency_key text[], p_fingerprint bytea[], p_salt bytea[], p_after bigint[], p_on_row boolean[], p_deleted boolean[], p_created_at timestamp with time zone[], p_completed boolean[], p_title_key text[], p_search_text text[], p_document text[], p_priority smallint[] DEFAULT NULL::smallint[], p_due_date text[] DEFAULT NULL::text[], p_tags text[] DEFAULT NULL::text[], p_completed_at timestamp with time zone[] DEFAULT NULL::timestamp with time zone[]) RETURNS TABLE(seq bigint, hash bytea, outcome text, message text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    last_seq bigint := 0;
    last_hash bytea := '';
    is_new boolean;
    e record;
    violated text;
BEGIN
    -- An acknowledged event must survive a crash, even if the server, the database or the role says otherwise.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF p_wait THEN
        SELECT s.seq, s.hash INTO last_seq, last_hash FROM streams AS s WHERE s.user_id = p_user_id FOR UPDATE;
    ELSE
        SELECT s.seq, s.hash INTO last_seq, last_hash FROM streams AS s WHERE s.user_id = p_user_id
        FOR UPDATE SKIP LOCKED;
    END IF;
    is_new := NOT FOUND;
    IF is_new THEN
        last_seq := 0;
        last_hash := '';
    END IF;
    -- One by one as a record: Citus copies each array that a statement names, as a whole, for each event.
    FOR e IN
        SELECT u.* FROM unnest(
            p_digest, p_id, p_task_id, p_version, p_type, p_at, p_actor, p_data, p_request_id, p_client_address,
            p_client_agent, p_idempotency_key, p_fingerprint, p_salt, p_after, p_on_row, p_deleted, p_created_at,
            p_completed, p_title_key, p_search_text, p_document, p_priority, p_due_date, p_tags, p_completed_at
        ) AS u (
            digest, id, task_id, version, type, at, actor, data, request_id, client_address, client_agent,
            idempotency_key, fingerprint, salt, after, on_row, deleted, created_at, completed, title_key, search_text,
            document, priority, due_date, tags, completed_at
        )
    LOOP
        seq := last_seq + 1;
        hash := sha256(last_hash || e.digest);
        outcome := NULL;
        message := NULL;
        IF is_new AND NOT p_wait THEN
            outcome := 'LG001';
        ELSIF e.after <> last_seq THEN
            outcome := 'LG005';
        ELSE
            BEGIN
                INSERT INTO events (
                    user_id, seq, hash, id, task_id, version, type, at, actor, data,
                    request_id, client_address, client_agent, idempotency_key, fingerprint, salt
                ) VALUES (
                    p_user_id, daybook_append.seq, daybook_append.hash, e.id, e.task_id, e.version, e.type,
                    e.at, e.actor, e.data, e.request_id, e.client_address, e.client_agent,
                    e.idempotency_key, e.fingerprint, e.salt
                );
                IF e.deleted THEN
                    DELETE FROM tasks AS t WHERE t.user_id = p_user_id AND t.id = e.task_id;
                    IF e.on_row AND NOT FOUND THEN
                        RAISE SQLSTATE 'LG004';
                    END IF;
                ELSE
                    INSERT INTO tasks (
                        user_id, id, version, completed, priority, due_date, tags, created_at, updated_at, completed_at,
                        title_key, search_text, document
                    ) VALUES (
                        p_user_id, e.task_id, e.version, e.completed, e.priority, e.due_date, e.tags,
                        e.created_at, e.at, e.completed_at, e.title_key, e.search_text, e.document
                    )
                    ON CONFLICT (user_id, id) DO UPDATE SET
                        version = excluded.version, completed = excluded.completed,
                        priority = excluded.priority, due_date = excluded.due_date, tags = excluded.tags,
                        completed_at = excluded.completed_at, created_at = excluded.created_at,
                        updated_at = excluded.updated_at,
                        title_key = excluded.title_key, search_text = excluded.search_text,
                        document = excluded.document;
                END IF;
                last_seq := seq;
                last_hash := hash;
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS
                    outcome = RETURNED_SQLSTATE, message = MESSAGE_TEXT, violated = CONSTRAINT_NAME;
                IF violated = '' THEN -- from another server of a Citus cluster comes only the message
                    violated := message;
                END IF;
                outcome := CASE
                    WHEN outcome <> '23505' THEN outcome
                    WHEN violated LIKE '%events%task\_version\_key%' THEN 'LG002'
                    WHEN violated LIKE '%events%idempotency\_key%' THEN 'LG003'
                    WHEN violated LIKE '%events%pkey%' AND is_new THEN 'LG001'
                    ELSE outcome
                END;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF is_new AND last_seq > 0 THEN
        INSERT INTO streams (user_id, seq, hash) VALUES (p_user_id, last_seq, last_hash);
    ELSIF NOT is_new THEN
        UPDATE streams AS s SET seq = last_seq, hash = last_hash WHERE s.user_id = p_user_id AND s.seq <> last_seq;
    END IF;
END
$$;
COMMENT ON FUNCTION daybook_append(p_user_id text, p_wait boolean, p_digest bytea[], p_id uuid[], p_task_id uuid[], p_version integer[], p_type text[], p_at timestamp with time zone[], p_actor text[], p_data jsonb[], p_request_id text[], p_client_address text[], p_client_agent text[], p_idempotency_key text[], p_fingerprint bytea[], p_salt bytea[], p_after bigint[], p_on_row boolean[], p_deleted boolean[], p_created_at timestamp with time zone[], p_completed boolean[], p_title_key text[], p_search_text text[], p_document text[], p_priority smallint[], p_due_date text[], p_tags text[], p_completed_at timestamp with time zone[]) IS 'Appends events to one stream, and moves the projection along with each.';

CREATE FUNCTION daybook_append_many(p_user_id text[], p_digest bytea[], p_id uuid[], p_task_id uuid[], p_version integer[], p_type text[], p_at timestamp with time zone[], p_actor text[], p_data jsonb[], p_request_id text[], p_client_address text[], p_client_agent text[], p_idempotency_key text[], p_fingerprint bytea[], p_salt bytea[], p_after bigint[], p_on_row boolean[], p_deleted boolean[], p_created_at timestamp with time zone[], p_completed boolean[], p_title_key text[], p_search_text text[], p_document text[], p_priority smallint[] DEFAULT NULL::smallint[], p_due_date text[] DEFAULT NULL::text[], p_tags text[] DEFAULT NULL::text[], p_completed_at timestamp with time zone[] DEFAULT NULL::timestamp with time zone[]) RETURNS TABLE(n bigint, seq bigint, hash bytea, outcome text, message text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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
COMMENT ON FUNCTION daybook_append_many(p_user_id text[], p_digest bytea[], p_id uuid[], p_task_id uuid[], p_version integer[], p_type text[], p_at timestamp with time zone[], p_actor text[], p_data jsonb[], p_request_id text[], p_client_address text[], p_client_agent text[], p_idempotency_key text[], p_fingerprint bytea[], p_salt bytea[], p_after bigint[], p_on_row boolean[], p_deleted boolean[], p_created_at timestamp with time zone[], p_completed boolean[], p_title_key text[], p_search_text text[], p_document text[], p_priority smallint[], p_due_date text[], p_tags text[], p_completed_at timestamp with time zone[]) IS 'Appends events to several streams.';

CREATE FUNCTION daybook_erase(p_user_id text, p_seq bigint[], p_personal bytea[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    erased bigint;
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    UPDATE events AS e SET
        data = NULL, request_id = NULL, client_address = NULL, client_agent = NULL, idempotency_key = NULL,
        fingerprint = NULL, salt = NULL, personal = given.personal
    FROM unnest(p_seq, p_personal) AS given (seq, personal)
    WHERE e.user_id = p_user_id AND e.seq = given.seq AND e.personal IS NULL;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;
COMMENT ON FUNCTION daybook_erase(p_user_id text, p_seq bigint[], p_personal bytea[]) IS 'Erases the content of events that other events record as erased.';

CREATE FUNCTION daybook_guard_content() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    content CONSTANT text[] := ARRAY[
        'data', 'request_id', 'client_address', 'client_agent', 'idempotency_key', 'fingerprint', 'salt', 'personal'
    ];
    before bytea; -- the hash of the event before; null of the first
    ending text;
    header text;
BEGIN
    IF OLD.personal IS NULL AND NEW.personal IS NOT NULL AND OLD.type NOT IN ('TaskErased', 'UserErased')
        AND num_nonnulls(
            NEW.data, NEW.request_id, NEW.client_address, NEW.client_agent, NEW.idempotency_key, NEW.fingerprint,
            NEW.salt
        ) = 0
        AND to_jsonb(NEW) - content = to_jsonb(OLD) - content
    THEN
        EXECUTE format('SELECT hash FROM %s WHERE user_id = $1 AND seq = $2', TG_RELID::regclass)
        INTO before USING OLD.user_id, OLD.seq - 1;
        EXECUTE format(
            'SELECT type FROM %s WHERE user_id = $1 AND task_id = $2 AND version > $3 ORDER BY version DESC LIMIT 1',
            TG_RELID::regclass
        )
        INTO ending USING OLD.user_id, OLD.task_id, OLD.version;
        header := format(
            '{"actor":%s,"at":"%s","id":"%s","task_id":"%s","type":%s,"user_id":%s,"version":%s}',
            to_json(OLD.actor), to_char(OLD.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), OLD.id,
            OLD.task_id, to_json(OLD.type), to_json(OLD.user_id), OLD.version
        );
        IF ending = 'TaskErased'
            AND OLD.hash = sha256(coalesce(before, '') || sha256(convert_to(header, 'UTF8') || NEW.personal))
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% on % refused: the log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write an event that undoes the other one instead.';
END
$_$;
COMMENT ON FUNCTION daybook_guard_content() IS 'Lets content be erased, and nothing else be changed, by the owner too.';

CREATE FUNCTION daybook_lock_stream(p_user_id text) RETURNS TABLE(seq bigint, hash bytea)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    RETURN QUERY SELECT s.seq, s.hash FROM streams AS s WHERE s.user_id = p_user_id FOR UPDATE;
END
$$;
COMMENT ON FUNCTION daybook_lock_stream(p_user_id text) IS 'Locks one stream until the transaction ends.';

CREATE FUNCTION daybook_record_access(p_user_id text, p_id uuid, p_at timestamp with time zone, p_auditor text, p_actor text, p_path text, p_request_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    -- An answer is sent once its record is kept: that must survive a crash, whatever the server's settings say.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO accesses (user_id, id, at, auditor, actor, path, request_id)
    VALUES (p_user_id, p_id, p_at, p_auditor, p_actor, p_path, p_request_id)
    ON CONFLICT (user_id, id) DO NOTHING;
END
$$;
COMMENT ON FUNCTION daybook_record_access(p_user_id text, p_id uuid, p_at timestamp with time zone, p_auditor text, p_actor text, p_path text, p_request_id text) IS 'Puts an auditor''s read of a user''s log on record.';

CREATE FUNCTION daybook_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write an event that undoes the other one instead.';
END
$$;
COMMENT ON FUNCTION daybook_refuse() IS 'Keeps the log append-only, for its owner too.';

CREATE TABLE accesses (
    user_id text NOT NULL,
    id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    auditor text NOT NULL,
    actor text NOT NULL,
    path text NOT NULL,
    request_id text NOT NULL,
    CONSTRAINT accesses_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
);
COMMENT ON TABLE accesses IS 'Who has read a user''s log as an auditor, one row per request. Append-only.';
COMMENT ON COLUMN accesses.auditor IS 'The user of the auditor''s token.';
COMMENT ON COLUMN accesses.actor IS 'Who acted with that token: the auditor, or somebody for them.';
COMMENT ON COLUMN accesses.path IS 'The path that was read, without its query.';
COMMENT ON CONSTRAINT accesses_user_id_check ON accesses IS 'User ids are opaque, but neither empty nor endless.';

CREATE TABLE events (
    user_id text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    id uuid NOT NULL,
    task_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    data jsonb,
    request_id text,
    client_address text,
    client_agent text,
    idempotency_key text,
    fingerprint bytea,
    salt bytea,
    personal bytea,
    CONSTRAINT events_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT events_idempotency_check CHECK (((idempotency_key IS NULL) = (fingerprint IS NULL))),
    CONSTRAINT events_salt_check CHECK ((octet_length(salt) = 16)),
    CONSTRAINT events_seq_check CHECK ((seq >= 1)),
    CONSTRAINT events_version_check CHECK ((version >= 1))
)
PARTITION BY HASH (user_id);
COMMENT ON TABLE events IS 'What happened, in order, per user. Append-only: the truth that tasks is made from.';
COMMENT ON COLUMN events.personal IS 'The inner digest, in the place of content that was erased.';
COMMENT ON CONSTRAINT events_hash_check ON events IS 'A hash is SHA-256.';
COMMENT ON CONSTRAINT events_idempotency_check ON events IS 'A key without the request it stood for can''t be compared.';
COMMENT ON CONSTRAINT events_salt_check ON events IS 'Without its salt a short title could be guessed from the digest.';
COMMENT ON CONSTRAINT events_seq_check ON events IS 'A log begins with 1.';
COMMENT ON CONSTRAINT events_version_check ON events IS 'A task begins with version 1.';

CREATE TABLE events_p00 (… its parent's columns and checks …)
WITH (autovacuum_analyze_scale_factor='0.30');

CREATE TABLE streams (
    user_id text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT streams_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT streams_seq_check CHECK ((seq >= 1)),
    CONSTRAINT streams_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
)
WITH (fillfactor='50', autovacuum_analyze_threshold='10000');
COMMENT ON TABLE streams IS 'One row per user: the number and hash of their last event. Its lock serialises their writes.';
COMMENT ON CONSTRAINT streams_hash_check ON streams IS 'A hash is SHA-256.';
COMMENT ON CONSTRAINT streams_seq_check ON streams IS 'A stream begins with its first event.';
COMMENT ON CONSTRAINT streams_user_id_check ON streams IS 'User ids are opaque, but neither empty nor endless.';

CREATE TABLE tasks (
    user_id text NOT NULL,
    id uuid NOT NULL,
    version integer NOT NULL,
    completed boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    title_key text NOT NULL COLLATE pg_catalog."C",
    search_text text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    priority smallint,
    due_date text COLLATE pg_catalog."C",
    tags text COLLATE pg_catalog."C",
    completed_at timestamp with time zone,
    CONSTRAINT tasks_updated_at_check CHECK ((updated_at >= created_at)),
    CONSTRAINT tasks_version_check CHECK ((version >= 1))
)
PARTITION BY HASH (user_id);
COMMENT ON TABLE tasks IS 'The projection: every live task as its last event left it. Can be rebuilt from events.';
COMMENT ON COLUMN tasks.title_key IS 'The title in the form in which titles are sorted.';
COMMENT ON COLUMN tasks.search_text IS 'Title, description and tags in the form in which they are searched.';
COMMENT ON COLUMN tasks.document IS 'The task as clients are sent it, as JSON. The other columns are made from the same task.';
COMMENT ON COLUMN tasks.priority IS '1 low, 2 medium, 3 high.';
COMMENT ON COLUMN tasks.due_date IS 'A date, or a moment in UTC: as text, both are in one order.';
COMMENT ON COLUMN tasks.tags IS 'The tags, a line each, with a line end before and after each.';
COMMENT ON COLUMN tasks.completed_at IS 'When it was last completed; null while it isn''t.';
COMMENT ON CONSTRAINT tasks_updated_at_check ON tasks IS 'No change comes before the creation.';
COMMENT ON CONSTRAINT tasks_version_check ON tasks IS 'A task that is there has at least one event.';

CREATE TABLE tasks_p00 (… its parent's columns and checks …)
WITH (fillfactor='80', autovacuum_analyze_scale_factor='0.30');

ALTER TABLE ONLY events ATTACH PARTITION events_p00 FOR VALUES WITH (modulus 4, remainder 0);

ALTER TABLE ONLY tasks ATTACH PARTITION tasks_p00 FOR VALUES WITH (modulus 4, remainder 0);

ALTER TABLE ONLY accesses
    ADD CONSTRAINT accesses_pkey PRIMARY KEY (user_id, id);
COMMENT ON CONSTRAINT accesses_pkey ON accesses IS 'No read is on record twice; serves pages, newest first, of one user.';

ALTER TABLE ONLY events
    ADD CONSTRAINT events_pkey PRIMARY KEY (user_id, seq);
COMMENT ON CONSTRAINT events_pkey ON events IS 'No number of a user''s log is given twice.';

ALTER TABLE ONLY events_p00
    ADD CONSTRAINT events_p00_pkey PRIMARY KEY (user_id, seq);

ALTER TABLE ONLY events
    ADD CONSTRAINT events_task_version_key UNIQUE (user_id, task_id, version);
COMMENT ON CONSTRAINT events_task_version_key ON events IS 'The optimistic lock: two writers can''t both follow one version.';

ALTER TABLE ONLY events_p00
    ADD CONSTRAINT events_p00_task_version_key UNIQUE (user_id, task_id, version);

ALTER TABLE events
    ADD CONSTRAINT events_personal_check CHECK (
CASE
    WHEN (personal IS NULL) THEN ((data IS NOT NULL) AND (salt IS NOT NULL))
    ELSE ((octet_length(personal) = 32) AND (data IS NULL) AND (salt IS NULL))
END) NOT VALID;
COMMENT ON CONSTRAINT events_personal_check ON events IS 'An event has its content or, if that was erased, its inner digest.';

ALTER TABLE ONLY streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (user_id);
COMMENT ON CONSTRAINT streams_pkey ON streams IS 'One chain per user, never a fork.';

ALTER TABLE ONLY tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (user_id, id);
COMMENT ON CONSTRAINT tasks_pkey ON tasks IS 'One row per task, found by its owner only.';

ALTER TABLE ONLY tasks_p00
    ADD CONSTRAINT tasks_p00_pkey PRIMARY KEY (user_id, id);

CREATE UNIQUE INDEX events_idempotency_key ON ONLY events USING btree (user_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);
COMMENT ON INDEX events_idempotency_key IS 'A retried request finds its first event instead of writing another.';

CREATE UNIQUE INDEX events_p00_idempotency_key ON events_p00 USING btree (user_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX tasks_created_at_idx ON ONLY tasks USING btree (user_id, created_at DESC, id DESC);
COMMENT ON INDEX tasks_created_at_idx IS 'Serves the list, newest first, and its pages from any cursor.';

CREATE INDEX tasks_due_date_idx ON ONLY tasks USING btree (user_id, due_date, id) WHERE (due_date IS NOT NULL);
COMMENT ON INDEX tasks_due_date_idx IS 'Serves the list by due date, and its pages from any cursor.';

CREATE INDEX tasks_p00_created_at_idx ON tasks_p00 USING btree (user_id, created_at DESC, id DESC);

CREATE INDEX tasks_p00_due_date_idx ON tasks_p00 USING btree (user_id, due_date, id) WHERE (due_date IS NOT NULL);

CREATE INDEX tasks_priority_idx ON ONLY tasks USING btree (user_id, priority, id) WHERE (priority IS NOT NULL);
COMMENT ON INDEX tasks_priority_idx IS 'Serves the list by priority, and its pages from any cursor.';

CREATE INDEX tasks_p00_priority_idx ON tasks_p00 USING btree (user_id, priority, id) WHERE (priority IS NOT NULL);

ALTER INDEX events_idempotency_key ATTACH PARTITION events_p00_idempotency_key;

ALTER INDEX events_pkey ATTACH PARTITION events_p00_pkey;

ALTER INDEX events_task_version_key ATTACH PARTITION events_p00_task_version_key;

ALTER INDEX tasks_created_at_idx ATTACH PARTITION tasks_p00_created_at_idx;

ALTER INDEX tasks_due_date_idx ATTACH PARTITION tasks_p00_due_date_idx;

ALTER INDEX tasks_pkey ATTACH PARTITION tasks_p00_pkey;

ALTER INDEX tasks_priority_idx ATTACH PARTITION tasks_p00_priority_idx;

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON accesses FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse();
ALTER TABLE accesses ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse();
ALTER TABLE events ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON events_p00 FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse();
ALTER TABLE events_p00 ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER append_only_but_erasure BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION daybook_guard_content();
ALTER TABLE events ENABLE ALWAYS TRIGGER append_only_but_erasure;
