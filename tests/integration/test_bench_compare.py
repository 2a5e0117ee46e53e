"""The bounds of `make bench`, its processor times, and the programs that it runs."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from bench import compare, pgbench, pooler
from bench.bounds import BOUNDS, append_line, table
from bench.load_generator import Candidate, LoadGenerator
from bench.machine import tree_cpu_seconds
from bench.people import People
from bench.service import Service
from db.dsn import connect_arguments
from db.pool import Pool
from tests.conftest import execute, on_plain_postgres
from tests.unit.test_layout import ROOT

_ALIKE = "version, type, data, client_address, client_agent, idempotency_key, fingerprint"


def test_each_line_is_marked_that_misses_its_bound() -> None:
    limits = {bound.line: bound.least or bound.most or 1.0 for bound in BOUNDS}
    met = {line: [limit, 0.1 * limit, 9 * limit] for line, limit in limits.items()}
    assert "MISSED" not in table(met)
    for bound in BOUNDS:
        worse = 0.9 if bound.least else 1.1
        text = table({**met, bound.line: [worse * limits[bound.line]]})
        marked = [row.split(" | ")[0] for row in text.splitlines() if "MISSED" in row]
        assert marked == [f"| {bound.line}"] * bool(bound.least or bound.most)


def test_a_line_that_was_not_measured_is_neither_left_out_nor_met() -> None:
    rows = table({}).splitlines()[2:]
    assert len(rows) == len(BOUNDS) == len({bound.line for bound in BOUNDS})
    assert all("not measured" in row for row in rows)


def test_without_wrk_it_says_what_to_install_before_it_starts_anything() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bench.compare"], cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch("FAILED: wrk isn't installed: .*apt install wrk.*\n", ended.stderr)


def test_the_time_of_descendants_counts_while_they_live_and_after() -> None:
    busy = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])\n{busy}\nprint(flush=True); input()"
    )
    before = tree_cpu_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()  # its child has ended
        alive, of_all = tree_cpu_seconds(process.pid), tree_cpu_seconds(os.getpid())
        process.stdin.write(b"\n")
    assert alive >= 0.6
    assert of_all - before >= alive - 0.02
    assert tree_cpu_seconds(os.getpid()) - before >= alive - 0.02


async def test_pgbench_appends_an_event_in_each_transaction(pool: Pool, database: str, folder: Path) -> None:
    await asyncio.to_thread(_pgbench, database, folder, pgbench.append())
    events = await pool.fetchval("SELECT count(*) FROM events WHERE version = 1 AND type = 'TaskCreated'")
    assert events > 0
    assert await pool.fetchval("SELECT sum(seq)::bigint FROM streams") == events
    assert await pool.fetchval("SELECT count(*) FROM tasks") == events


async def test_pgbench_inserts_the_same_event_and_does_no_more(pool: Pool, database: str, folder: Path) -> None:
    await execute(database, pgbench.PLAIN_SEQUENCE)
    await asyncio.to_thread(_pgbench, database, folder, pgbench.plain_insert())
    await asyncio.to_thread(_pgbench, database, folder, pgbench.append())
    plain, appended = [
        await pool.fetch(f"SELECT DISTINCT {_ALIKE} FROM events WHERE user_id LIKE $1", f"{who}-%")
        for who in ("plain", "pgbench")
    ]
    assert len(plain) == 1
    assert plain == appended
    assert not await pool.fetchval("SELECT count(*) FROM streams WHERE user_id LIKE 'plain-%'")


@on_plain_postgres  # Citus distributes no statement that writes to several tables
async def test_pgbench_writes_the_same_rows_without_the_function(pool: Pool, database: str, folder: Path) -> None:
    await asyncio.to_thread(_pgbench, database, folder, pgbench.rows())
    await asyncio.to_thread(_pgbench, database, folder, pgbench.append())
    for written_to, columns in (
        ("events", _ALIKE),
        ("tasks", "version, completed, priority, due_date, tags, title_key, search_text, length(document)"),
    ):
        written, appended = [
            await pool.fetch(f"SELECT DISTINCT {columns} FROM {written_to} WHERE user_id LIKE $1", f"{who}-%")
            for who in ("rows", "pgbench")
        ]
        assert len(written) == 1
        assert written == appended
    assert await pool.fetchval(
        """SELECT bool_and(s.seq = (SELECT count(*) FROM events AS e WHERE e.user_id = s.user_id))
        FROM streams AS s WHERE s.user_id LIKE 'rows-%'"""
    )


@on_plain_postgres
async def test_each_statement_of_the_database_has_a_line(
    database: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = LoadGenerator(folder, "", People((), ()), postmaster=0, rounds=1, seconds=1)
    ratios: dict[str, Sequence[float]] = {}
    await compare.database(generator, Candidate("ours 1", Service(0, 0, ""), database), ratios, [2])
    lines = [line for line in capsys.readouterr().out.splitlines() if "2 connections" in line]
    assert len(lines) == 4
    assert list(ratios) == [append_line(2)]


@on_plain_postgres
async def test_pgbench_reads_pages(database: str, folder: Path) -> None:
    await asyncio.to_thread(_pgbench, database, folder, pgbench.page())


def _pgbench(dsn: str, folder: Path, text: str) -> None:
    script = folder / "pgbench.sql"
    script.write_text(text)
    assert pgbench.rate(dsn, script, 2, 1) > 0


@pytest.mark.skipif(pooler.PGBOUNCER is None, reason="PgBouncer isn't installed")
async def test_the_pooler_is_in_transaction_mode(database: str, folder: Path) -> None:
    if not connect_arguments(database)["host"].startswith("/"):
        pytest.skip("the benchmark's Postgres has a socket")
    with pooler.pooled(database, folder, 1) as dsn:
        first, second = [await asyncpg.connect(**connect_arguments(dsn)) for _ in range(2)]  # on one server connection
        assert await first.fetchval("SELECT pg_backend_pid()") == await second.fetchval("SELECT pg_backend_pid()")
        for each in (first, second):
            await each.close()
