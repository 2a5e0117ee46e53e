"""`daybook rebuild` and `daybook verify`, as processes of their own, on a database."""

import asyncio
import json
import multiprocessing
import os
import pty
import re
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from bench.load import Author, load
from cli.parallel import Choice, CutShort, go_through
from cli.worker import Result
from db.dsn import connect_arguments
from events.integrity import work_units
from tests.arrange import Statement, note_statements
from tests.conftest import execute, let_the_log_change, on_plain_postgres
from tests.faults.servers import children
from tests.processes import DAYBOOK, run
from tests.service import SHARDED

pytestmark = pytest.mark.once

USERS, EVENTS = 30, 40


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    former = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in former.items():
        signal.signal(each, handler)


async def _load(dsn: str) -> int:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    for number in range(USERS):
        await load(connection, Author(f"user-{number:02}"), EVENTS)
    tasks: int = await connection.fetchval("SELECT count(*) FROM tasks")
    await connection.close()
    return tasks


@pytest.fixture
def tasks(database: str) -> int:
    """Fill the database, and return the number of tasks."""
    return asyncio.run(_load(database))


def test_verify_finds_a_wrong_projection_and_rebuild_mends_it(database: str, folder: Path, tasks: int) -> None:
    def daybook(*arguments: str) -> tuple[int, str]:
        result = run(folder, *arguments, DATABASE_URL=database)
        assert result.stderr == ""
        return result.returncode, result.stdout

    rate = r" \d+\.\d s, [\d,]+ events/s\.\n"
    status, told = daybook("verify")
    assert (status, bool(re.fullmatch(rf"30 users, 1,200 events, {tasks} tasks: no mismatch\.{rate}", told))) == (
        0,
        True,
    )

    escape = """UPDATE tasks SET document = replace(document, '"title":"', '"title":"\\u001b[2J')"""
    asyncio.run(execute(database, f"{escape} WHERE user_id = 'user-07'"))
    status, told = daybook("verify", "--workers", "2")
    *lines, last = told.splitlines()
    assert (status, f": {len(lines)} mismatches in tasks (`daybook rebuild`)." in last) == (1, True)
    assert all(
        re.match(r"user-07: task [0-9a-f-]{36} has another `title` than the log \(title: found ", each)
        for each in lines
    )
    assert "\x1b" not in told
    assert daybook("verify", "--user", "user-08")[0] == 0
    assert daybook("verify", "--sample", "100")[0] == 1
    assert daybook("verify", "--sample", "3")[1].splitlines()[-1].startswith("3 users, 120 events, ")

    status, told = daybook("rebuild")
    rows = rf"30 users, 1,200 events: {len(lines)} rows written, 0 removed, {tasks - len(lines)} already right\."
    assert status == 0
    assert re.fullmatch(rows + rate, told)
    assert daybook("verify")[0] == 0


def test_what_the_log_says_of_the_address_does_not_get_among_the_answers(
    database: str, folder: Path, tasks: int
) -> None:
    separator = "&" if "?" in database else "?"
    dsn = f"{database}{separator}channel_binding=prefer&keepalives=1"
    for command in ("verify", "rebuild"):
        result = run(folder, command, DATABASE_URL=dsn, LOG_LEVEL="INFO")
        assert (result.returncode, f"{tasks} " in result.stdout) == (0, True), result.stderr
        assert result.stderr.count("database options dropped") == 1


@pytest.mark.usefixtures("tasks")
def test_machines_get_json_and_a_damaged_log_is_left_alone(database: str, folder: Path) -> None:
    asyncio.run(let_the_log_change(database))
    asyncio.run(execute(database, "DELETE FROM events WHERE user_id = 'user-07' AND seq = 20"))
    for command in ("verify", "rebuild"):
        result = run(folder, command, "--json", DATABASE_URL=database)
        told = json.loads(result.stdout)
        assert (result.returncode, told["clean"], told["users"]) == (1, False, 30)
        found = told["mismatches"][0]
        assert (found["user_id"], found["table"], found["seq"]) == ("user-07", "events", 20)
        assert found["message"] == "event 20 is missing: event 21 comes next"
        assert told["cut_short"] is None
    people = run(folder, "rebuild", DATABASE_URL=database).stdout
    assert "1 user left alone, since their log isn't as it was written: see docs/guides/rebuild.md." in people


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "--user", "ann", "--sample", "3"], "--user and --sample don't go together"),
        (["verify", "--export", "x", "--user", "ann"], "--export and --user don't go together"),
        (["verify", "--head", "x"], "--head, --after and --keys go with --export"),
        (["verify", "--keys", "x"], "--head, --after and --keys go with --export"),
        (["verify", "--export", "x", "--keys", "x"], "--keys goes with --head or --after"),
        (["rebuild", "--user", "ann", "--start-after", "bob"], "--user and --start-after don't go together"),
        (["rebuild", "--user", "a/b"], "a user has 1 to 255 characters and no slash"),
        (["rebuild", "--workers", "0"], "workers"),
        (["verify"], "There is no database: DATABASE_URL isn't set, and none is found under "),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, arguments: list[str], says: str) -> None:
    result = run(folder, *arguments, COLUMNS="200", NO_COLOR="1")
    assert (result.returncode, says in result.stderr) == (2, True)


def test_a_database_without_a_schema_says_what_to_do(empty_database: str, folder: Path) -> None:
    for command in ("verify", "rebuild"):
        result = run(folder, command, DATABASE_URL=empty_database)
        assert (result.returncode, result.stdout) == (2, "")
        assert "daybook migrate" in result.stderr


def test_nobody_is_a_clean_database(database: str, folder: Path) -> None:
    for command in ("verify", "rebuild"):
        result = run(folder, command, DATABASE_URL=database)
        assert (result.returncode, result.stdout.startswith("0 users, 0 events")) == (0, True)
        assert ("there was nothing to look at" in result.stdout) == (command == "verify")
    sample = run(folder, "verify", "--sample", "5", DATABASE_URL=database)
    assert (sample.returncode, "there was nothing to look at" in sample.stdout) == (0, True)


def test_a_user_of_whom_there_is_nothing_is_not_clean(database: str, folder: Path) -> None:
    for command in ("verify", "rebuild"):
        result = run(folder, command, "--user", "nobody", "--json", DATABASE_URL=database)
        assert (result.returncode, json.loads(result.stdout)["clean"]) == (2, False)
        assert "There is nothing of a user 'nobody': no event, no task." in result.stderr
        people = run(folder, command, "--user", "nobody", DATABASE_URL=database)
        assert (people.returncode, people.stdout, people.stderr) == (2, "", result.stderr)


def test_without_a_schema_nothing_is_printed_but_the_reason(empty_database: str, folder: Path) -> None:
    for command in ("verify", "rebuild"):
        for arguments in ((), ("--user", "ann"), ("--json",), ("--json", "--user", "ann")):
            result = run(folder, command, *arguments, DATABASE_URL=empty_database)
            assert (result.returncode, result.stdout) == (2, "")
            assert result.stderr.startswith("daybook: The database has no schema of Daybook's: run `daybook migrate`")


def test_what_cannot_be_written_or_read_is_no_difference(database: str, folder: Path) -> None:
    pipe = " ".join(DAYBOOK)
    for command, says in {
        f"{pipe} verify --json > /dev/full": "daybook: Standard output can't be written: No space left on device.\n",
        f"{pipe} verify | true; exit ${{PIPESTATUS[0]}}": "",
    }.items():
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=folder, env={**os.environ, "DATABASE_URL": database}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (2, says)


def test_a_role_that_may_not_read_is_told_so(database: str, folder: Path) -> None:
    role = f"nobody_{os.urandom(4).hex()}"
    asyncio.run(execute(database, f"CREATE ROLE {role} LOGIN PASSWORD 'x'"))
    url = urlsplit(database)
    theirs = urlunsplit(url._replace(netloc=f"{role}:x@" + url.netloc.rpartition("@")[2]))
    result = run(folder, "verify", DATABASE_URL=theirs)
    asyncio.run(execute(database, f"DROP ROLE {role}"))
    assert (result.returncode, "permission denied" in result.stderr, "Traceback" in result.stderr) == (2, True, False)


class OnTerminal:
    """A command whose progress goes to a terminal."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*DAYBOOK, *arguments],
            cwd=folder,
            env={**os.environ, **variables, "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            start_new_session=True,
        )
        os.close(theirs)
        self._shown = b""

    def until(self, text: str) -> None:
        """Read until the text is shown."""
        while text.encode() not in self._shown:
            self._shown += os.read(self.terminal, 65536)

    def end(self) -> tuple[int, str, str]:
        """Return the exit status, the output, and all that was shown on the terminal."""
        with suppress(OSError):  # the other end is closed
            while piece := os.read(self.terminal, 65536):
                self._shown += piece
        os.close(self.terminal)
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output, self._shown.decode()


@pytest.fixture
def locked(database: str, tasks: int) -> Iterator[str]:  # noqa: ARG001 - there must be some
    """Lock user-20's stream, so that a rebuild comes no further; yield the DSN."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(**connect_arguments(database)))
        transaction = connection.transaction()
        runner.run(transaction.start())
        runner.run(connection.execute("SELECT FROM streams WHERE user_id = 'user-20' FOR UPDATE"))
        yield database
        runner.run(transaction.rollback())
        runner.run(connection.close())


class Kept(list[str]):
    """A report that keeps what it is told."""

    def begin(self, events: int | None) -> None:
        self.append(f"begin {events}")

    def add(self, result: Result) -> None:
        self.append(f"{result.users} users")

    def stopping(self) -> None:
        self.append("stopping")


@on_plain_postgres  # it counts work units, which are others by shard
async def test_it_goes_on_behind_the_users_who_are_finished(
    database: str, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 6)
    await execute(database, "TRUNCATE tasks")
    report = Kept()
    with pytest.raises(CutShort, match="holds the stream of one of these users for seconds") as cut:
        await go_through(locked, "rebuild", Choice(sharded=SHARDED), workers=1, report=report)
    assert cut.value.after == "user-17"
    assert report == [f"begin {USERS * EVENTS}", "6 users", "6 users", "6 users"]
    posted = await _fetch(database, "SELECT DISTINCT user_id FROM tasks ORDER BY 1")
    assert posted == [f"user-{number:02}" for number in range(24) if number != 20]


async def _fetch(dsn: str, query: str) -> list[str]:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    rows = await connection.fetch(query)
    await connection.close()
    return [row[0] for row in rows]


@on_plain_postgres  # it counts work units, which are others by shard
@pytest.mark.usefixtures("tasks")
async def test_a_first_signal_lets_what_is_under_way_be_finished(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 6)

    class Interrupting(Kept):
        def add(self, result: Result) -> None:
            super().add(result)
            os.kill(os.getpid(), signal.SIGTERM)

    report = Interrupting()
    with pytest.raises(CutShort, match="Stopped") as cut:
        await go_through(database, "verify", Choice(sharded=SHARDED), workers=1, report=report)
    assert report[:3] == [f"begin {USERS * EVENTS}", "6 users", "stopping"]
    rest = Kept()
    await go_through(database, "verify", Choice(after=cut.value.after, sharded=SHARDED), workers=2, report=rest)
    assert len(report) + len(rest) >= 1 + 5 + 1


async def _killing(victim: Callable[[], None], dsn: str, report: Kept) -> CutShort:
    """Rebuild up to the user who is locked, and call `victim` there."""
    task = asyncio.create_task(go_through(dsn, "rebuild", Choice(sharded=SHARDED), workers=1, report=report))
    while len(report) < 4:
        await asyncio.sleep(0.01)
    victim()
    with pytest.raises(CutShort) as cut:
        await task
    assert report[:4] == [f"begin {USERS * EVENTS}", "6 users", "6 users", "6 users"]
    assert multiprocessing.active_children() == []
    return cut.value


@on_plain_postgres  # it counts work units, which are others by shard
async def test_a_worker_that_is_killed_ends_it_and_tells_where_to_go_on(
    locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 6)
    cut = await _killing(lambda: multiprocessing.active_children()[0].kill(), locked, Kept())
    assert (str(cut).startswith("A worker process has ended before its work"), cut.after) == (True, "user-17")


@on_plain_postgres  # it counts work units, which are others by shard
async def test_a_second_signal_stops_what_is_under_way(locked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 6)

    def twice() -> None:
        for sign in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), sign)

    report = Kept()
    cut = await _killing(twice, locked, report)
    assert (str(cut), cut.after, report[4:]) == ("Stopped.", "user-17", ["stopping"])


@pytest.mark.usefixtures("tasks")
async def test_signals_after_a_first_one_leave_alone_what_is_told_of_it(database: str) -> None:
    class Interrupted(Kept):
        def begin(self, events: int | None) -> None:
            super().begin(events)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(CutShort, match="Stopped"):
        await go_through(database, "verify", Choice(sharded=SHARDED), workers=1, report=Interrupted())
    for sign in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), sign)
        await asyncio.sleep(0.01)


async def test_signals_are_as_before_if_none_came(database: str) -> None:
    former = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    await go_through(database, "verify", Choice(sharded=SHARDED), workers=1, report=Kept())
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == former


@on_plain_postgres  # it counts work units, which are others by shard
@pytest.mark.usefixtures("tasks")
async def test_workers_keep_their_connection_and_get_few_units_ahead(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_units, "_PAGE", 1)
    taken, ahead, report = 0, list[int](), Kept()

    async def count(statement: Statement) -> None:
        nonlocal taken
        if statement.query == work_units.PAGE and statement.rows:
            taken += 1
            ahead.append(taken - report.count("1 users"))

    note_statements(monkeypatch).on_answer = count
    before = await _sessions(database)
    await go_through(database, "verify", Choice(sharded=SHARDED), workers=2, report=report)
    assert report.count("1 users") == taken == USERS
    assert max(ahead) == 3
    # Ours, the workers' (one may have done all), and the one that asks.
    assert await _sessions(database) - before in (1 + 1 + 1, 1 + 2 + 1)


async def _sessions(dsn: str) -> int:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    while await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ):
        await asyncio.sleep(0.01)  # they tell of themselves at their end, at the latest
    await connection.execute("SELECT pg_stat_force_next_flush()")
    sessions: int = await connection.fetchval(
        "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    )
    await connection.close()
    return sessions


def test_workers_never_hear_ctrl_c_and_end_with_a_parent_that_is_killed(locked: str, folder: Path) -> None:
    with subprocess.Popen(
        [*DAYBOOK, "rebuild"], cwd=folder, env={**os.environ, "DATABASE_URL": locked}, stderr=subprocess.DEVNULL
    ) as process:
        while not (workers := _workers(process.pid)):
            time.sleep(0.01)
        for each in workers:
            blocked = re.findall(r"SigBlk:\s*(\w+)", Path(f"/proc/{each}/status").read_text())[0]
            assert int(blocked, 16) & 1 << signal.SIGINT - 1
        process.kill()
    while any(Path(f"/proc/{each}/cmdline").exists() and _is_worker(each) for each in workers):
        time.sleep(0.01)


def _workers(pid: int) -> list[int]:
    return [each for each in children(pid) if _is_worker(each)]


def _is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.usefixtures("tasks")
def test_workers_load_nothing_from_the_working_folder(database: str, folder: Path) -> None:
    for name in ("cli", "config", "db", "events", "multiprocessing", "pickle", "struct", "uvloop"):
        (folder / f"{name}.py").write_text("raise SystemExit('taken from the working folder')")
    result = subprocess.run(
        [Path(sysconfig.get_path("scripts"), "daybook"), "verify"],
        cwd=folder, env={**os.environ, "DATABASE_URL": database}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


def test_progress_is_shown_on_a_terminal_and_ctrl_c_ends_it(locked: str, folder: Path) -> None:
    command = OnTerminal(folder, "rebuild", DATABASE_URL=locked)
    command.until("rebuild")
    os.killpg(command.process.pid, signal.SIGINT)
    command.until("Finishing what is under way")
    os.killpg(command.process.pid, signal.SIGINT)
    status, output, shown = command.end()
    assert (status, "Traceback" in shown) == (2, False)
    assert "What was finished is right." in shown
    assert output == ""


def test_ctrl_c_pressed_again_and_again_still_tells_what_was_done(locked: str, folder: Path) -> None:
    command = OnTerminal(folder, "rebuild", DATABASE_URL=locked)
    command.until("rebuild")
    while command.process.poll() is None:
        os.kill(command.process.pid, signal.SIGINT)
        time.sleep(0.001)  # as fast as the command can take them, and no faster
    status, _, shown = command.end()
    assert "What was finished is right." in shown
    assert status in (2, -signal.SIGINT)  # the last one may have come as Python ended
