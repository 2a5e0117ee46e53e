"""What Postgres does at most: pgbench sends it the service's own statements."""

import os
import re
import subprocess
from pathlib import Path

from bench.people import USERS
from bench.wrk import Failed
from db.embedded import binaries
from events.store.log import APPEND
from queries.tasks import LIST


def rate(dsn: str, script: Path, connections: int, seconds: float) -> float:
    """Transactions a second."""
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
    printed = subprocess.run(command, env=as_the_service, capture_output=True, text=True, check=True).stdout
    found = re.search(r"tps = ([\d.]+)", printed)
    if not found or "failed transactions: 0 " not in printed:
        raise Failed(printed)
    return float(found[1])


def append() -> str:
    """The append statement as the service sends it, for a creation by one of 500 users."""
    key = "md5((:n)::text)"
    values = {
        1: "'pgbench-' || (:u)::text", 2: f"sha256({key}::bytea)", 3: f"{key}::uuid", 4: f"{key}::uuid", 5: "1",
        6: "'TaskCreated'", 7: "now()", 8: "'pgbench-' || (:u)::text",
        9: """'{"v": 2, "changes": {"title": {"from": null, "to": "Buy oat milk before Friday"}}}'""",
        10: key, 11: "'127.0.0.1'", 12: "'bench'", 13: "NULL", 14: "NULL", 15: f"decode({key}, 'hex')", 16: "false",
        17: "'Buy oat milk before Friday'", 18: "NULL", 19: "false", 20: "now()", 21: "true",
    }  # fmt: skip
    statement = re.sub(r"\$(\d+)", lambda found: f"({values[int(found[1])]})", APPEND).strip()
    return f"\\set u random(1, 500)\n\\set n random(1, 9000000000000000000)\n{statement};\n"


def page() -> str:
    values = {1: "'user-' || lpad((:u)::text, 4, '0')", 2: "NULL", 3: "NULL", 4: "50", 5: "0", 6: "NULL", 7: "NULL"}
    statement = re.sub(r"\$(\d)", lambda found: f"({values[int(found[1])]})", LIST["created_at", "desc"]).strip()
    return f"\\set u random(0, {USERS - 1})\n{statement};\n"
