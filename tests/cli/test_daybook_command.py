"""The `daybook` command as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import jwt
import pytest

from events.task import TaskToggled
from tests.exports import LOG, Record, lines, records, rehashed
from tests.faults.servers import children
from tests.faults.servers import service as server
from tests.forking import Command
from tests.integration.test_embedded import ask, servers
from tests.processes import DAYBOOK, Serving, free_port, run
from tests.schema import APPLIED
from tests.spec import event


def call(
    port: int, token: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] = MappingProxyType({})
) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/demo/tasks",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_serve_greets_serves_stops_and_keeps_its_data(folder: Path, sign: signal.Signals) -> None:
    with Serving(folder) as serving:
        greeting = serving.greeting()
        link, _, token = re.findall(r"http\S+/ui/#token=\S+", greeting)[0].partition("#token=")
        assert f"Bearer {token}'" in greeting
        with urllib.request.urlopen(link, timeout=10) as page:
            assert b"<title>Daybook</title>" in page.read()
        assert link == f"http://127.0.0.1:{serving.port}/ui/"
        curl = greeting[greeting.index("curl -sw") :]
        pasted = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=20)
        task = json.loads(pasted.stdout)
        assert (task["user_id"], task["title"]) == ("demo", "Buy milk")

        second = run(folder, "serve", "--port", str(free_port()))
        assert second.returncode == 2
        assert f"already running with the data in {folder}/.daybook: http://127.0.0.1:{serving.port}" in second.stderr
        assert str(serving.process.pid) in second.stderr
        assert serving.stop(sign) == 0
        assert servers(folder / ".daybook") == []
    assert "Traceback" not in "".join(serving.errors)

    with Serving(folder) as again:
        again.greeting()
        token = run(folder, "token", "demo").stdout.strip()
        assert call(again.port, token) == [task]
        assert again.stop(sign) == 0
    assert servers(folder / ".daybook") == []


def test_workers_share_the_database_and_the_secret(folder: Path) -> None:
    with Serving(folder, "--workers", "2") as serving:
        serving.greeting()
        token = run(folder, "token", "demo").stdout.strip()
        for n in range(10):
            call(serving.port, token, "POST", {"title": str(n)})
        assert len(call(serving.port, token)) == 10
        assert serving.stop() == 0
    assert servers(folder / ".daybook") == []


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(folder, "serve", "--port", str(port))
    assert result.returncode == 2
    assert f"127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr
    assert servers(folder / ".daybook") == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"DATABASE_URL": "postgresql://nobody:hunter2@/nowhere?host=/tmp"}, "can't be reached"),
        ({"ENVIRONMENT": "production"}, "DATABASE_URL"),
        ({"JWT_SECRET": "short"}, "JWT_SECRET"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL or DATABASE_URL_DIRECT: it must start with postgresql://"),
        ({"DAYBOOK_DATA_DIR": "/proc/nowhere"}, "DAYBOOK_DATA_DIR: /proc/nowhere can't be made"),
        ({"DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/d"}, "can't be reached"),
    ],
)
def test_a_command_that_cannot_start_says_why_and_exits_with_2(
    folder: Path, variables: dict[str, str], says: str
) -> None:
    for command in ("serve", "migrate"):
        result = run(folder, command, **variables)
        assert (command, result.returncode) == (command, 2)
        assert says in result.stderr
        assert "Traceback" not in result.stderr
        assert "hunter2" not in result.stderr


def test_serve_on_a_configured_database_migrates_it_unless_told_not_to(empty_database: str, folder: Path) -> None:
    with Serving(folder, "--no-migrate", DATABASE_URL=empty_database) as without:
        assert without.process.wait(30) == 2
    assert "run `daybook migrate` first" in "".join(without.errors)
    with Serving(folder, DATABASE_URL=empty_database) as serving:
        token = re.search(r"Bearer (\S+)'", serving.greeting())
        assert token
        assert call(serving.port, token[1]) == []
        assert serving.stop(signal.SIGTERM) == 0
    assert not (folder / ".daybook" / "postgres").exists()


@pytest.mark.parametrize(
    ("variables", "recorded"),
    [({}, "127.0.0.1"), ({"FORWARDED_ALLOW_IPS": "127.0.0.1"}, "203.0.113.9")],
)
def test_a_forwarded_address_is_believed_only_from_a_proxy_that_is_named(
    empty_database: str, folder: Path, variables: dict[str, str], recorded: str
) -> None:
    with Serving(folder, DATABASE_URL=empty_database, **variables) as serving:
        token = re.search(r"Bearer (\S+)'", serving.greeting())
        assert token
        call(serving.port, token[1], "POST", {"title": "x"}, {"X-Forwarded-For": "203.0.113.9"})
        assert serving.stop() == 0
    assert ask(empty_database, "SELECT client_address FROM events") == recorded


def test_with_an_issuer_there_is_no_token_to_give_away_and_hostile_requests_are_bounded(
    empty_database: str, folder: Path
) -> None:
    issuer = f"http://127.0.0.1:{free_port()}"  # where nobody is, so far
    with Serving(folder, DATABASE_URL=empty_database, BETTER_AUTH_URL=issuer) as serving:
        greeting = serving.greeting("keys are at")
        assert f"{issuer}/api/auth/jwks" in greeting
        assert "#token=" not in greeting
        assert "Authorization" not in greeting
        token = run(folder, "token", "demo", BETTER_AUTH_URL=issuer)
        assert (token.returncode, token.stdout) == (2, "")
        assert "JWT_SECRET: isn't set" in token.stderr
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert b"application/problem+json" in connection.makefile("rb").read()
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
            upgrade = (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA=="
            )
            connection.sendall(f"GET /livez HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n".encode())
            assert connection.recv(12) == b"HTTP/1.1 200"  # there is nothing to upgrade to
        assert serving.stop() == 0
    assert any("JWKS can't be fetched" in line for line in serving.errors)


def test_migrate_says_what_it_did(folder: Path) -> None:
    assert run(folder, "migrate").stdout == f"{APPLIED}\n"
    assert run(folder, "migrate").stdout == "The schema is up to date.\n"
    assert servers(folder / ".daybook") == []


@pytest.mark.usefixtures("unsharded")
def test_migrate_refuses_a_newer_schema(database: str, folder: Path) -> None:
    import asyncio

    from tests.conftest import execute

    asyncio.run(execute(database, "UPDATE alembic_version SET version_num = '9999'"))
    for command in (["migrate"], ["serve"], ["serve", "--no-migrate"]):
        result = run(folder, *command, DATABASE_URL=database)
        assert result.returncode == 2
        assert "newer release" in result.stderr
        assert "9999" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_login_that_may_not_change_the_schema_is_told_what_to_set(empty_database: str, folder: Path) -> None:
    import asyncio

    from tests.conftest import execute
    from tests.integration.test_roles import as_login

    name = f"weak_{uuid4().hex}"
    asyncio.run(execute(empty_database, f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'"))
    try:
        for command in ("migrate", "serve"):
            result = run(folder, command, DATABASE_URL=as_login(empty_database, name, "hunter2"))
            assert result.returncode == 2
            assert f"{name} may not change the schema" in result.stderr
            assert "DATABASE_URL_DIRECT" in result.stderr
            assert "Traceback" not in result.stderr
            assert "hunter2" not in result.stderr
    finally:
        asyncio.run(execute(empty_database, f"DROP ROLE {name}"))


def test_a_token_holds_as_long_as_asked_and_carries_what_is_configured(folder: Path) -> None:
    secret = "s" * 32
    result = run(
        folder, "token", "ann", "--ttl", "30m",
        JWT_SECRET=secret, JWT_ISSUER="https://i", JWT_AUDIENCE="a", JWT_USER_CLAIM="user.id",
        JWT_ACTOR_CLAIM="user.email",
    )  # fmt: skip
    claims = jwt.decode(result.stdout.strip(), secret, algorithms=["HS256"], issuer="https://i", audience="a")
    assert claims["user"] == {"id": "ann", "email": "ann"}
    assert claims["exp"] - claims["iat"] == 1800


def test_a_token_cannot_have_a_claim_within_a_text(folder: Path) -> None:
    result = run(folder, "token", "ann", JWT_SECRET="s" * 32, JWT_USER_CLAIM="user", JWT_ACTOR_CLAIM="user.email")
    assert result.returncode == 2
    assert "JWT_ACTOR_CLAIM: user.email can't be within user" in result.stderr


@pytest.mark.parametrize("ttl", ["", "1", "h", "-1h", "0h", "1y", "1.5h"])
def test_a_time_that_cannot_be_read_is_refused(folder: Path, ttl: str) -> None:
    result = run(folder, "token", "ann", "--ttl", ttl)
    assert result.returncode == 2
    assert "30m" in result.stderr


@pytest.mark.parametrize("user", ["", "a/b", "u" * 256])
def test_a_token_is_not_signed_for_what_names_no_user(folder: Path, user: str) -> None:
    result = run(folder, "token", user)
    assert result.returncode == 2
    assert "1 to 255 characters" in result.stderr


def test_a_start_that_is_interrupted_leaves_nothing_running(folder: Path) -> None:
    run(folder, "migrate")
    for delay in (0.1, 0.3, 0.5, 0.7, 0.9, 1.3):
        with Serving(folder) as serving:
            time.sleep(delay)
            for _ in range(2):
                os.killpg(serving.process.pid, signal.SIGINT)
                time.sleep(0.05)
            serving.process.wait(30)
        assert servers(folder / ".daybook") == []


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_command_leaves_nothing_running(folder: Path, sign: signal.Signals) -> None:
    for command, delay in [("migrate", 0.0), ("migrate", 0.2), ("migrate", 1.0), ("rebuild", 0.0), ("verify", 0.2)]:
        process = Command([command], cwd=folder, env={**os.environ})
        with process.stdout, process.stderr:
            while not servers(folder / ".daybook") and process.poll() is None:
                time.sleep(0.01)
            time.sleep(delay)
            process.send_signal(sign)
            assert process.wait(60) in (0, 2, -sign)  # the last while Python itself ends
            assert "Traceback" not in process.stderr.read()
        assert servers(folder / ".daybook") == []


@pytest.mark.parametrize("loaded", ["typer", "cli.main"], ids=["while it is loaded", "while it runs"])
def test_ctrl_c_ends_a_command_with_status_2(folder: Path, loaded: str) -> None:
    variables = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}  # each module is named once it is loaded
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*DAYBOOK, "verify", "--export", "-"], cwd=folder, env=variables, stdin=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line.split("|")[-1].strip() == loaded for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 2
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"]])
def test_ctrl_c_pressed_several_times_leaves_nothing_running(folder: Path, arguments: list[str]) -> None:
    with Serving(folder, *arguments) as serving:
        serving.greeting()
        for _ in range(3):
            os.killpg(serving.process.pid, signal.SIGINT)
            time.sleep(0.02)
        assert serving.process.wait(30) == 0
    assert servers(folder / ".daybook") == []
    assert not [line for line in serving.errors if "Traceback" in line]


def test_workers_never_hear_ctrl_c_not_even_while_they_are_loaded(folder: Path) -> None:
    with Serving(folder, "--workers", "2") as serving:
        serving.greeting()
        found = [
            int(re.findall(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[0], 16)
            for pid in children(serving.process.pid)
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert [blocked & 1 << signal.SIGINT - 1 for blocked in found] == [2, 2]
        assert serving.stop() == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_log_says_when_the_service_starts_and_has_stopped(
    database: str, folder: Path, sign: signal.Signals
) -> None:
    with server(folder, database, LOG_LEVEL="INFO") as serving:
        serving.wait_until_ready()
        assert serving.stop(sign) == 0
    told = [json.loads(line) for line in serving.errors]
    assert [(line["address"], line["workers"]) for line in told if line["event"] == "starting"] == [(serving.url, 1)]
    assert told[-1]["event"] == "stopped"


def test_a_closed_terminal_stops_everything(folder: Path) -> None:
    with Serving(folder) as serving:
        serving.greeting()
        assert serving.stop(signal.SIGHUP) == 0
    assert servers(folder / ".daybook") == []


def test_a_database_that_died_does_not_keep_the_service_from_stopping(folder: Path) -> None:
    with Serving(folder) as serving:
        serving.greeting()
        pid = int((folder / ".daybook/postgres/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        while servers(folder / ".daybook"):
            time.sleep(0.05)
        time.sleep(1)
        assert serving.stop() == 0


@pytest.fixture
def export(folder: Path) -> Path:
    path = folder / "ann.ndjson"
    path.write_bytes(lines(LOG))
    return path


NO_SETTINGS = {"ENVIRONMENT": "production"}
"""With these, nothing starts that asks for settings."""


def test_an_export_that_is_clean_is_told_from_one_that_is_not(folder: Path, export: Path) -> None:
    clean = run(folder, "verify", "--export", "ann.ndjson", **NO_SETTINGS)
    assert (clean.returncode, clean.stderr) == (0, "")
    assert clean.stdout == (
        "Events 1 to 10 of ann: nothing was changed, removed, added or reordered.\n"
        f"The hash of event 10 is {LOG[9]['hash']}.\n"
        "That they weren't all made anew, or the last ones cut off, only a head can show that was kept (--head).\n"
    )
    export.write_bytes(lines([*LOG[:4], *LOG[5:]][::-1]))
    touched = run(folder, "verify", "--export", "ann.ndjson", **NO_SETTINGS)
    assert (touched.returncode, touched.stderr) == (1, "")
    assert touched.stdout == (
        "Line 5: event 5 is missing: event 6 comes next. "
        "Only a whole export can be verified, not one that was filtered.\n"
        "Events 1 to 4 of ann fit together.\n"
    )
    assert not (folder / ".daybook").exists()


def test_a_machine_gets_the_result_as_json(folder: Path, export: Path) -> None:
    clean = run(folder, "verify", "--export", "ann.ndjson", "--json")
    assert clean.returncode == 0
    assert json.loads(clean.stdout) == {
        "clean": True, "user_id": "ann", "events": 10, "first": 1, "last": 10, "hash": LOG[9]["hash"],
        "head": None, "mismatch": None, "signed_by": [],
    }  # fmt: skip
    export.write_bytes(lines([*LOG[:4], {**LOG[4], "changes": {}}, *LOG[5:]]))
    touched = run(folder, "verify", "--export", "ann.ndjson", "--json")
    assert touched.returncode == 1
    assert json.loads(touched.stdout) == {
        "clean": False, "user_id": "ann", "events": 4, "first": 1, "last": 4, "hash": LOG[3]["hash"],
        "head": None, "mismatch": {
            "table": "events", "kind": "changed", "user_id": "ann", "seq": 5, "line": 5, "task_id": None,
            "field": "changes", "found": None, "expected": None, "more": 0,
            "message": "event 5 was changed: `changes` doesn't follow from `data`",
        },
        "signed_by": [],
    }  # fmt: skip


def test_an_export_is_held_against_a_head(folder: Path, export: Path) -> None:
    head = folder / "head.json"
    head.write_text(json.dumps({name: LOG[9][name] for name in ("seq", "hash", "at")}))
    whole = run(folder, "verify", "--export", "ann.ndjson", "--head", "head.json")
    assert whole.returncode == 0
    assert "Event 10 is the head that was kept: up to it, the log is as it was then." in whole.stdout
    export.write_bytes(lines(LOG[:9]))
    cut = run(folder, "verify", "--export", "ann.ndjson", "--head", "head.json")
    assert cut.returncode == 1
    assert "Event 10 is missing: the head is event 10." in cut.stdout


def test_an_export_that_follows_on_a_head_is_held_against_it(folder: Path, export: Path) -> None:
    (folder / "head.json").write_text(json.dumps({name: LOG[3][name] for name in ("seq", "hash", "at")}))
    export.write_bytes(lines(LOG[4:]))
    rest = run(folder, "verify", "--export", "ann.ndjson", "--after", "head.json")
    assert "They go on from event 4, the head that was kept." in rest.stdout
    assert (rest.returncode, "Events 5 to 10 of ann" in rest.stdout) == (0, True)
    whole = run(folder, "verify", "--export", "ann.ndjson", "--head", "head.json")
    assert (whole.returncode, "Line 1: events 1 to 4 are missing" in whole.stdout) == (1, True)


@pytest.mark.parametrize("export_of", [LOG[2:], LOG[:1:-1], LOG[2:3]])
def test_an_export_that_overlaps_the_head_before_it_is_asked_for_anew(
    folder: Path, export: Path, export_of: list[Record]
) -> None:
    (folder / "head.json").write_text(json.dumps({name: LOG[3][name] for name in ("seq", "hash", "at")}))
    export.write_bytes(lines(export_of))
    told = run(folder, "verify", "--export", "ann.ndjson", "--after", "head.json")
    assert (told.returncode, told.stdout, told.stderr) == (
        2,
        "",
        "daybook: ann.ndjson begins at event 3, and the head is event 4: export it with after=4\n",
    )


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_empty_export_is_clean_only_where_a_head_says_so(folder: Path, export: Path, form: tuple[str, ...]) -> None:
    def verified(*options: str) -> "subprocess.CompletedProcess[str]":
        return run(folder, "verify", "--export", "ann.ndjson", *options, *form)

    export.write_bytes(b"\xef\xbb\xbf")
    (folder / "head.json").write_text(json.dumps({name: LOG[3][name] for name in ("seq", "hash", "at")}))
    (folder / "none.json").write_text('\ufeff{"seq":0,"hash":"","at":null}')
    for options in ((), ("--after", "head.json")):
        told = verified(*options)
        assert (told.returncode, told.stdout) == (2, "")
        assert told.stderr == (
            "daybook: ann.ndjson: It has no events: there are none, or its download failed. "
            "A head that was kept (--head) can tell which.\n"
        )
    for given, says in (
        (("--head", "none.json"), "There are no events, as the head that was kept says.\n"),
        (("--head", "head.json", "--after", "head.json"), "There are no events after event 4, as the head that"),
    ):
        clean = verified(*given)
        assert (clean.returncode, clean.stderr) == (0, "")
        assert json.loads(clean.stdout)["clean"] if form else clean.stdout.startswith(says)
    cut = verified("--head", "head.json")
    assert (cut.returncode, "vents 1 to 4 are missing" in cut.stdout) == (1, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b'{"title":"Not authenticated","detail":"Please sign in.","hint":"The token has expired."}',
            "The token has expired",
        ),
        (b"\x1f\x8b\x08\x00", "it is compressed"),
        (lines(LOG).decode().encode("utf-16"), "it is UTF-16"),
    ],
)
def test_a_file_that_is_no_export_is_not_called_a_changed_one(
    folder: Path, export: Path, content: bytes, says: str
) -> None:
    export.write_bytes(content)
    told = run(folder, "verify", "--export", "ann.ndjson")
    piped = subprocess.run([*DAYBOOK, "verify", "--export", "-"], input=content, capture_output=True, check=False)
    assert (piped.returncode, piped.stderr.decode()) == (2, told.stderr.replace("ann.ndjson", "stdin"))
    assert (told.returncode, told.stdout) == (2, "")
    assert "None of its lines is an event of an export" in told.stderr
    assert says in told.stderr


def test_an_export_is_read_from_a_pipe(export: Path) -> None:
    for command in ("cat ann.ndjson | $0 verify --export -", "$0 verify --export <(tac ann.ndjson)"):
        piped = subprocess.run(
            ["bash", "-c", command.replace("$0", " ".join(DAYBOOK))],
            cwd=export.parent, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (piped.returncode, piped.stderr) == (0, "")
        assert "Events 1 to 10 of ann" in piped.stdout


def test_an_export_moves_nothing_on_the_terminal(folder: Path, export: Path) -> None:
    export.write_bytes(lines(records([event(TaskToggled(True), 1, user_id="\x1b[2Jann")])))
    assert run(folder, "verify", "--export", "ann.ndjson").stdout.startswith("Event 1 of '\\x1b[2Jann': ")
    newer = rehashed([{**LOG[0], "type": "\x1b[2J"}])
    export.write_bytes(lines(newer))
    assert "\x1b" not in run(folder, "verify", "--export", "ann.ndjson").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--export", "nowhere.ndjson"], "daybook: nowhere.ndjson can't be read: No such file or directory\n"),
        (["--export", "."], "daybook: . can't be read: Is a directory\n"),
        (["--export", "ann.ndjson", "--head", "nowhere.json"], "daybook: nowhere.json can't be read: "),
        (["--export", "ann.ndjson", "--head", "ann.ndjson"], "daybook: ann.ndjson: It isn't an answer of GET /api/"),
        (["--export", "newer.ndjson"], "event 5 (line 5): TaskRestored in form 99 is not known to this release"),
    ],
)
def test_an_export_that_cannot_be_verified_exits_with_2(
    folder: Path, export: Path, arguments: list[str], says: str
) -> None:
    newer = [*LOG[:4], {**LOG[4], "data": {"v": 99}}, *LOG[5:]]
    export.with_name("newer.ndjson").write_bytes(lines(rehashed(newer)))
    result = run(folder, "verify", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_every_command(folder: Path) -> None:
    text = run(folder, "--help").stdout
    for command in ("serve", "migrate", "token", "verify"):
        assert command in text
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(folder, "--version").stdout)
