"""Scripts for pgbench with the service's own statements: the upper limits that Postgres sets."""

import os
import re
import subprocess
from pathlib import Path

from bench.people import USERS
from bench.wrk import Failed
from db.embedded import binaries
from events.store.append import APPEND
from queries.tasks import LIST


def rate(dsn: str, script: Path, connections: int, seconds: float) -> float:
    """Run a script, and return its transactions a second. Raises `Failed`."""
    command = [
        str(binaries() / "pgbench"),
        "-n",
        "-M",
        "prepared",
        "-c",
        str(connections),
        "-T",
        str(max(1, round(seconds))),
        "-f",
        str(script),
        dsn,
    ]
    as_the_service = {**os.environ, "PGOPTIONS": "-c plan_cache_mode=force_generic_plan -c jit=off"}
    ended = subprocess.run(command, env=as_the_service, capture_output=True, text=True, check=False)
    found = re.search(r"tps = ([\d.]+)", ended.stdout)
    if ended.returncode or not found or "failed transactions: 0 " not in ended.stdout:
        raise Failed(f"pgbench: {ended.stdout}{ended.stderr}")
    return float(found[1])


_KEY = "md5((:n)::text)"
_DIGEST = f"sha256({_KEY}::bytea)"
_TASK = (
    "'buy oat milk before friday'",
    "'buy oat milk before friday'",
    f"""'{{"id" : "' || {_KEY} || '", "title" : "Buy oat milk before Friday", "completed" : false, "version" : 1}}'""",
)
"""Title key, search text and document of the task's row. The document is nearly as long as a real one."""
_EVENT = {
    "id": f"{_KEY}::uuid",
    "task_id": f"{_KEY}::uuid",
    "version": "1",
    "type": "'TaskCreated'",
    "at": "now()",
    "actor": "'pgbench-' || (:u)::text",
    "data": """'{"v": 3, "changes": {"title": {"from": null, "to": "Buy oat milk before Friday"}}}'""",
    "request_id": _KEY,
    "client_address": "'127.0.0.1'",
    "client_agent": "'bench'",
    "idempotency_key": "NULL",
    "fingerprint": "NULL",
    "salt": f"decode({_KEY}, 'hex')",
}
"""Columns of `events` for a creation with a new id in each transaction, without user, `seq` and hash."""
PLAIN_SEQUENCE = "CREATE SEQUENCE IF NOT EXISTS plain_seq CACHE 1000"
"""Statement that makes the sequence for the numbers of `plain_insert`."""


def append_call() -> str:
    """Return the statement that appends one event as the service sends it, with `_EVENT` for its arguments."""
    user = "'pgbench-' || (:u)::text"
    event = (_DIGEST, *_EVENT.values(), "NULL", "true", "false", "now()", "false", *["NULL"] * 4, *_TASK)
    values = (user, *event)
    return re.sub(r"\$(\d+)", lambda found: f"({values[int(found[1]) - 1]})", APPEND).strip()


def append() -> str:
    """Return a script that appends a creation, of one of 500 users."""
    return _of_some_user(append_call())


def plain_insert() -> str:
    """Return a script that only inserts a creation into `events`, without stream and task, of one of 500 users."""
    values = ", ".join(("'plain-' || (:u)::text", "nextval('plain_seq')", _DIGEST, *_EVENT.values()))
    return _of_some_user(f"INSERT INTO events (user_id, seq, hash, {', '.join(_EVENT)}) VALUES ({values})")  # noqa: S608 - constants


def rows() -> str:
    """Return a script that writes the rows of an append in one statement, without the function, for one of 500 users.

    It has no locks to wait for and no conflict to tell: the least that an append costs Postgres.
    """
    stream = f"""INSERT INTO streams (user_id, seq, hash) VALUES ('rows-' || (:u)::text, 1, {_DIGEST})
        ON CONFLICT (user_id) DO UPDATE SET seq = streams.seq + 1, hash = sha256(streams.hash || excluded.hash)
        RETURNING user_id, seq, hash"""  # noqa: S608 - constants
    event = f"""INSERT INTO events (user_id, seq, hash, {", ".join(_EVENT)})
        SELECT user_id, seq, hash, {", ".join(_EVENT.values())} FROM stream"""  # noqa: S608 - constants
    task = f"""INSERT INTO tasks (
            user_id, id, version, completed, created_at, updated_at, title_key, search_text, document
        ) SELECT user_id, {_KEY}::uuid, 1, false, now(), now(), {", ".join(_TASK)} FROM stream"""  # noqa: S608 - constants
    return _of_some_user(f"WITH stream AS ({stream}), event AS ({event}) {task}".replace("\n", " "))


def _of_some_user(statement: str) -> str:
    return f"\\set u random(1, 500)\n\\set n random(1, 9000000000000000000)\n{statement};\n"


def page() -> str:
    """Return a script that reads a page of one of the users' lists."""
    values = {
        1: "'user-' || lpad((:u)::text, 4, '0')",
        2: "NULL",
        3: "NULL::text[]",
        4: "50",
        5: "0",
        6: "NULL",
        7: "NULL",
    }
    statement = LIST["created_at", "desc", False, False].strip()
    statement = re.sub(r"\$(\d)", lambda found: f"({values[int(found[1])]})", statement)
    return f"\\set u random(0, {USERS - 1})\n{statement};\n"
