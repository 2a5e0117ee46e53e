-- What the migrations make, as pg_dump shows it, for readers: nothing runs it. `make schema` writes it anew.
-- The first partition of a table (events_p00, tasks_p00) stands for all.

CREATE FUNCTION daybook_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write an event that undoes the other one instead.';
END
$$;
COMMENT ON FUNCTION daybook_refuse() IS 'Keeps the log append-only, for its owner too.';

CREATE FUNCTION daybook_task_json(user_id text, id uuid, title text, description text, completed boolean, created_at timestamp with time zone, updated_at timestamp with time zone, version integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
BEGIN
    RETURN format(
        '{"id":"%s","user_id":%s,"title":%s,"description":%s,"completed":%s,'
        '"created_at":"%s","updated_at":"%s","version":%s}',
        id, to_json(user_id), to_json(title), coalesce(to_json(description)::text, 'null'), completed::text,
        to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        version
    );
END
$$;
COMMENT ON FUNCTION daybook_task_json(user_id text, id uuid, title text, description text, completed boolean, created_at timestamp with time zone, updated_at timestamp with time zone, version integer) IS 'A task as clients see it.';

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
    data jsonb NOT NULL,
    request_id text,
    client_address text,
    client_agent text,
    idempotency_key text,
    fingerprint bytea,
    salt bytea NOT NULL,
    CONSTRAINT events_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT events_idempotency_check CHECK (((idempotency_key IS NULL) = (fingerprint IS NULL))),
    CONSTRAINT events_salt_check CHECK ((octet_length(salt) = 16)),
    CONSTRAINT events_seq_check CHECK ((seq >= 1)),
    CONSTRAINT events_version_check CHECK ((version >= 1))
)
PARTITION BY HASH (user_id);
COMMENT ON TABLE events IS 'What happened, in order, per user. Append-only: the truth that tasks is made from.';
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
    title text NOT NULL,
    description text,
    completed boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    version integer NOT NULL,
    "json" text GENERATED ALWAYS AS (daybook_task_json(user_id, id, title, description, completed, created_at, updated_at, version)) STORED NOT NULL,
    CONSTRAINT tasks_description_check CHECK ((char_length(description) <= 5000)),
    CONSTRAINT tasks_title_check CHECK (((char_length(title) >= 1) AND (char_length(title) <= 255))),
    CONSTRAINT tasks_updated_at_check CHECK ((updated_at >= created_at)),
    CONSTRAINT tasks_version_check CHECK ((version >= 1))
)
PARTITION BY HASH (user_id);
COMMENT ON TABLE tasks IS 'The projection: every live task as its last event left it. Can be rebuilt from events.';
COMMENT ON COLUMN tasks."json" IS 'The task as clients see it. Postgres makes it of the other columns.';
COMMENT ON CONSTRAINT tasks_description_check ON tasks IS 'The API''s limits hold whoever writes.';
COMMENT ON CONSTRAINT tasks_title_check ON tasks IS 'The API''s limits hold whoever writes.';
COMMENT ON CONSTRAINT tasks_updated_at_check ON tasks IS 'No change comes before the creation.';
COMMENT ON CONSTRAINT tasks_version_check ON tasks IS 'A task that is there has at least one event.';

CREATE TABLE tasks_p00 (… its parent's columns and checks …)
WITH (fillfactor='80', autovacuum_analyze_scale_factor='0.30');

ALTER TABLE ONLY events ATTACH PARTITION events_p00 FOR VALUES WITH (modulus 16, remainder 0);

ALTER TABLE ONLY tasks ATTACH PARTITION tasks_p00 FOR VALUES WITH (modulus 16, remainder 0);

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

CREATE INDEX tasks_p00_created_at_idx ON tasks_p00 USING btree (user_id, created_at DESC, id DESC);

ALTER INDEX events_idempotency_key ATTACH PARTITION events_p00_idempotency_key;

ALTER INDEX events_pkey ATTACH PARTITION events_p00_pkey;

ALTER INDEX events_task_version_key ATTACH PARTITION events_p00_task_version_key;

ALTER INDEX tasks_created_at_idx ATTACH PARTITION tasks_p00_created_at_idx;

ALTER INDEX tasks_pkey ATTACH PARTITION tasks_p00_pkey;

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse();
ALTER TABLE events ENABLE ALWAYS TRIGGER append_only;

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON events_p00 FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse();
ALTER TABLE events_p00 ENABLE ALWAYS TRIGGER append_only;
