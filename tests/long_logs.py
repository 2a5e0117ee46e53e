"""A long log of one user, made by Postgres at once. Its hashes are made up, so `verify` refuses it."""

from db.pool import Connection

_TASKS = """
CREATE TEMPORARY TABLE made ON COMMIT DROP AS
SELECT n AS seq, gen_random_uuid() AS id,
       (CASE n % 3 WHEN 0 THEN upper(left(md5(n::text), n % 4 + 1)) ELSE left(md5(n::text), n % 4 + 1) END) AS title,
       nullif(rpad('', $2::integer, chr(128512)), '') AS description, n % 2 = 0 AS completed,
       timestamptz '2026-01-01 00:00:00Z' + n % 97 * interval '1 second' AS at
FROM generate_series(1, $1::integer) AS n
"""
_STREAM = "INSERT INTO streams (user_id, seq, hash) VALUES ($1, $2, sha256(''))"
_AT = """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_ROWS = f"""
INSERT INTO tasks (
    user_id, id, version, completed, created_at, updated_at, completed_at, title_key, search_text, document
)
SELECT $1::text, id, 1, completed, at, at, CASE WHEN completed THEN at END, lower(title),
    lower(concat_ws(E'\\n', title, description)),
replace(replace(json_build_object(
    'id', id, 'user_id', $1::text, 'title', title, 'description', description, 'completed', completed,
    'priority', null, 'due_date', null, 'tags', json_build_array(),
    'created_at', {_AT}, 'updated_at', {_AT}, 'completed_at', CASE WHEN completed THEN {_AT} END, 'version', 1
)::text, ' : ', ':'), ', "', ',"') FROM made
"""
_EVENTS = """
INSERT INTO events (user_id, seq, hash, id, task_id, version, type, at, actor, data, salt)
SELECT $1, seq, sha256(''), gen_random_uuid(), id, 1, 'TaskCreated', at, $1, jsonb_build_object(
    'v', 2, 'changes', jsonb_build_object(
        'title', jsonb_build_object('from', null, 'to', title),
        'description', jsonb_build_object('from', null, 'to', description),
        'completed', jsonb_build_object('from', null, 'to', completed)
    )
), substr(sha256(''), 1, 16) FROM made
"""
_TOGGLES = """
INSERT INTO events (user_id, seq, hash, id, task_id, version, type, at, actor, data, salt)
SELECT $1, $3::bigint + n, sha256(''), gen_random_uuid(), $2, n + 1, 'TaskToggled', '2026-02-01Z', $1,
    jsonb_build_object('v', 2, 'changes', jsonb_build_object(
        'completed', jsonb_build_object('from', n % 2 = 0, 'to', n % 2 = 1)
    )), substr(sha256(''), 1, 16)
FROM generate_series(1, $4::integer) AS n
"""


async def make_tasks(connection: Connection, user: str, number: int, *, length: int = 0) -> None:
    """Create so many tasks of a new user. `length`: characters of each description, of four bytes each."""
    async with connection.transaction():
        await connection.execute(_TASKS, number, length)
        await connection.execute(_STREAM, user, number)
        await connection.execute(_ROWS, user)
        await connection.execute(_EVENTS, user)


async def make_history(connection: Connection, user: str, toggles: int) -> str:
    """Create one task of a new user and toggle it so often, which `tasks` doesn't show; the task's id."""
    await make_tasks(connection, user, 1)
    return await add_toggles(connection, user, toggles)


async def add_toggles(connection: Connection, user: str, number: int) -> str:
    """Toggle one of the user's tasks so often, which `tasks` doesn't show; the task's id."""
    task = await connection.fetchval("SELECT id FROM tasks WHERE user_id = $1 LIMIT 1", user)
    seq = await connection.fetchval("SELECT seq FROM streams WHERE user_id = $1", user)
    await connection.execute(_TOGGLES, user, task, seq, number)
    await connection.execute("UPDATE streams SET seq = seq + $2 WHERE user_id = $1", user, number)
    return str(task)
