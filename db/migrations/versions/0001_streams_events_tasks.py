"""The log and its projection: streams, events, tasks."""

from importlib.resources import files

from alembic import context, op

revision = "0001"
down_revision = None

PARTITIONS = 4
"""Number of partitions of each table, unless `daybook migrate --partitions` says another (docs/adr/0039). With 0 there
are none: Citus has shards instead.
"""

# fillfactor 50: seq and hash change with every write and are in no index, so that the updates stay HOT.
STREAMS = """
CREATE TABLE streams (
    user_id text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    CONSTRAINT streams_pkey PRIMARY KEY (user_id),
    CONSTRAINT streams_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255),
    CONSTRAINT streams_seq_check CHECK (seq >= 1),
    CONSTRAINT streams_hash_check CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 50, autovacuum_analyze_threshold = 10000)
"""

EVENTS = """
CREATE TABLE events (
    user_id text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    id uuid NOT NULL,
    task_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    data jsonb NOT NULL,
    request_id text,
    client_address text,
    client_agent text,
    idempotency_key text,
    fingerprint bytea,
    salt bytea NOT NULL,
    CONSTRAINT events_seq_check CHECK (seq >= 1),
    CONSTRAINT events_version_check CHECK (version >= 1),
    CONSTRAINT events_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT events_salt_check CHECK (octet_length(salt) = 16),
    CONSTRAINT events_idempotency_check CHECK ((idempotency_key IS NULL) = (fingerprint IS NULL))
) {storage}
"""

# In the collation "C", texts are compared by code points, as Python does, and an index could serve LIKE.
TASKS = """
CREATE TABLE tasks (
    user_id text NOT NULL,
    id uuid NOT NULL,
    version integer NOT NULL,
    completed boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    title_key text NOT NULL COLLATE "C",
    search_text text NOT NULL COLLATE "C",
    document text NOT NULL,
    CONSTRAINT tasks_updated_at_check CHECK (updated_at >= created_at),
    CONSTRAINT tasks_version_check CHECK (version >= 1)
) {storage}
"""

# Each ANALYZE of a partition makes all connections plan their statements anew: 2 to 3 ms for each with 16 partitions,
# less with fewer. No plan needs statistics as fresh as with the default scale factor of 0.1. Users are spread evenly,
# so all partitions would be due in one minute: each has a scale factor of its own, from 0.3 to 1.1.
# fillfactor: room for a task's next version beside it, so that no index has to be touched (HOT).
STORAGE = {
    "events": "WITH (autovacuum_analyze_scale_factor = {share:.2f})",
    "tasks": "WITH (fillfactor = 80, autovacuum_analyze_scale_factor = {share:.2f})",
}

# A violation names the partition's constraint: each gets a readable name before the parent's constraint adopts it.
KEYS = {
    "events": {
        "pkey": "PRIMARY KEY (user_id, seq)",
        "task_version_key": "UNIQUE (user_id, task_id, version)",
    },
    "tasks": {"pkey": "PRIMARY KEY (user_id, id)"},
}
INDEXES = {
    "events": ("idempotency_key", "UNIQUE", "(user_id, idempotency_key) WHERE idempotency_key IS NOT NULL"),
    "tasks": ("created_at_idx", "", "(user_id, created_at DESC, id DESC)"),
}

REFUSE = """
CREATE FUNCTION daybook_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the log is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Write an event that undoes the other one instead.';
END
$$
"""

FUNCTIONS = ("daybook_append", "daybook_append_many", "daybook_lock_stream")
_BODIES = files("db") / "functions"

# The functions have their owner's rights: only who is granted it may call them, and the caller's search_path, or a
# temporary table of the same name, must not lead them to other tables.
SEARCH_PATH = """
DO $$ BEGIN EXECUTE format('ALTER FUNCTION {name} SET search_path = %I, pg_temp', current_schema()); END $$
"""

COMMENTS = {
    "TABLE streams": "One row per user: the number and hash of their last event. Its lock serialises their writes.",
    "TABLE events": "What happened, in order, per user. Append-only: the truth that tasks is made from.",
    "TABLE tasks": "The projection: every live task as its last event left it. Can be rebuilt from events.",
    "CONSTRAINT streams_pkey ON streams": "One chain per user, never a fork.",
    "CONSTRAINT streams_user_id_check ON streams": "User ids are opaque, but neither empty nor endless.",
    "CONSTRAINT streams_seq_check ON streams": "A stream begins with its first event.",
    "CONSTRAINT streams_hash_check ON streams": "A hash is SHA-256.",
    "CONSTRAINT events_pkey ON events": "No number of a user's log is given twice.",
    "CONSTRAINT events_task_version_key ON events": "The optimistic lock: two writers can't both follow one version.",
    "INDEX events_idempotency_key": "A retried request finds its first event instead of writing another.",
    "CONSTRAINT events_seq_check ON events": "A log begins with 1.",
    "CONSTRAINT events_version_check ON events": "A task begins with version 1.",
    "CONSTRAINT events_hash_check ON events": "A hash is SHA-256.",
    "CONSTRAINT events_salt_check ON events": "Without its salt a short title could be guessed from the digest.",
    "CONSTRAINT events_idempotency_check ON events": "A key without the request it stood for can't be compared.",
    "CONSTRAINT tasks_pkey ON tasks": "One row per task, found by its owner only.",
    "CONSTRAINT tasks_updated_at_check ON tasks": "No change comes before the creation.",
    "CONSTRAINT tasks_version_check ON tasks": "A task that is there has at least one event.",
    "INDEX tasks_created_at_idx": "Serves the list, newest first, and its pages from any cursor.",
    "COLUMN tasks.document": "The task as clients are sent it, as JSON. The other columns are made from the same task.",
    "COLUMN tasks.title_key": "The title in the form in which titles are sorted.",
    "COLUMN tasks.search_text": "Title and description in the form in which they are searched.",
    "FUNCTION daybook_append": "Appends events to one stream, and moves the projection along with each.",
    "FUNCTION daybook_append_many": "Appends events to several streams.",
    "FUNCTION daybook_lock_stream": "Locks one stream until the transaction ends.",
    "FUNCTION daybook_refuse()": "Keeps the log append-only, for its owner too.",
}


def upgrade() -> None:
    given = context.config.attributes.get("partitions")
    count = PARTITIONS if given is None else given
    op.execute(STREAMS)
    for table, statement in (("events", EVENTS), ("tasks", TASKS)):
        storage = "PARTITION BY HASH (user_id)" if count else STORAGE[table].format(share=0.3)
        op.execute(statement.format(storage=storage))
    op.execute(REFUSE)
    for name in FUNCTIONS:
        op.execute((_BODIES / f"{name}.sql").read_text())
        op.execute(SEARCH_PATH.format(name=name))
        op.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")
    for table in ("events", "tasks"):
        partitions = [f"{table}_p{number:02}" for number in range(count)]
        for number, partition in enumerate(partitions):
            op.execute(
                f"CREATE TABLE {partition} PARTITION OF {table} "
                f"FOR VALUES WITH (MODULUS {count}, REMAINDER {number}) "
                f"{STORAGE[table].format(share=0.3 + 0.8 * number / count)}"
            )
        for each in (*partitions, table):
            for name, key in KEYS[table].items():
                op.execute(f"ALTER TABLE {each} ADD CONSTRAINT {each}_{name} {key}")
            name, unique, columns = INDEXES[table]
            op.execute(f"CREATE {unique} INDEX {each}_{name} ON {each} {columns}")
    # On each partition too: a statement that names the partition fires no trigger of the parent's. ALWAYS, so that
    # session_replication_role doesn't switch it off.
    for each in ("events", *(f"events_p{number:02}" for number in range(count))):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {each} "
            "FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse()"
        )
        op.execute(f"ALTER TABLE {each} ENABLE ALWAYS TRIGGER append_only")
    for what, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {what} IS '{comment.replace(chr(39), chr(39) * 2)}'")
