"""Errors of the framework, request ids, the log line and health (docs/http-api.md, "Errors")."""

import asyncio
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from api.faults import FAULTS
from api.problems import Problem
from db.pool import Pool
from tests.arrange import until_locked_out
from tests.conftest import execute, on_plain_postgres
from tests.service import TASKS, Service, serving, sql, token


def assert_problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert list(problem)[:7] == ["type", "title", "status", "detail", "error", "message", "request_id"]
    assert problem["status"] == status
    assert isinstance(problem["detail"], str)
    assert problem["message"] == problem["error"] == problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


@pytest.mark.parametrize("path", ["/nope", "/api", "/api/ann/tasks/x/y", "/api/a/b/tasks"])
async def test_an_unknown_route_is_404(service: Service, path: str) -> None:
    assert_problem(await service.client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", TASKS, "GET, HEAD, POST"),
        ("POST", f"{TASKS}/019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11", "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET", f"{TASKS}/019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11/complete", "PATCH"),
        ("POST", "/health", "GET, HEAD"),
        ("GET", "/api/ann", "DELETE"),
        ("GET", "/api//tasks", "DELETE"),
        ("BREW", TASKS, "GET, HEAD, POST"),
    ],
)
async def test_an_unknown_method_is_405_and_says_which_are_known(
    service: Service, method: str, path: str, allowed: str
) -> None:
    answer = await service.client.request(method, path)
    problem = assert_problem(answer, 405)
    assert answer.headers["allow"] == allowed
    assert allowed in problem["hint"]


@pytest.mark.parametrize("sent", ["abc", "A.b_c-9", "x" * 128])
async def test_a_sane_request_id_is_kept(service: Service, sent: str, pool: Pool) -> None:
    answer = await service.client.post(TASKS, json={"title": "x"}, headers={"X-Request-ID": sent})
    assert answer.headers["x-request-id"] == sent
    assert await pool.fetchval("SELECT request_id FROM events") == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\tb", "a;b", "ü", None])
async def test_any_other_request_id_is_replaced(service: Service, sent: str | None) -> None:
    headers = {} if sent is None else {b"X-Request-ID": sent.encode("latin-1")}
    first, second = [(await service.client.get(TASKS, headers=headers)).headers["x-request-id"] for _ in range(2)]
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


async def test_an_event_knows_its_client(service: Service, pool: Pool) -> None:
    await service.client.post(TASKS, json={"title": "x"}, headers={"User-Agent": "curl/8 " + "x" * 600})
    row = await pool.fetchrow("SELECT actor, client_address, client_agent FROM events")
    assert row is not None
    assert (row["actor"], row["client_address"]) == ("ann", "192.0.2.7")
    assert row["client_agent"] == ("curl/8 " + "x" * 600)[:512]


class Lines:
    """The log's JSON lines so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([json.loads(line) for line in self._capsys.readouterr().err.splitlines()])


async def test_each_request_leaves_one_line_without_its_token(
    capsys: pytest.CaptureFixture[str], database: str
) -> None:
    async with serving(database, log_format="json") as service:
        await service.pool.server_of("ann")  # says so once, if the database is no Citus cluster
        capsys.readouterr()
        answer = await service.client.get(f"{TASKS}?q=secret", headers={"Authorization": f"Bearer {token()}"})
    text = capsys.readouterr().err
    [line] = [json.loads(line) for line in text.splitlines()]
    assert line["event"] == "request"
    assert (line["method"], line["route"], line["status"], line["user"]) == ("GET", "/api/{user_id}/tasks", 200, "ann")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["ms"] > 0
    assert line["level"] == "info"
    assert token()[:20] not in text
    assert "secret" not in text


async def test_a_refused_token_is_logged_with_its_reason_and_without_itself(
    capsys: pytest.CaptureFixture[str], database: str
) -> None:
    bad = token(secret="another secret of more than 32 bytes, too")
    async with serving(database, log_format="json") as service:
        capsys.readouterr()
        await service.client.get(TASKS, headers={"Authorization": f"Bearer {bad}"})
    text = capsys.readouterr().err
    refused, request = [json.loads(line) for line in text.splitlines()]
    assert (refused["event"], refused["reason"]) == (
        "token refused",
        "The token can't be verified: its signature isn't that of the key here.",
    )
    assert (request["status"], "user" in request) == (401, False)
    assert bad not in text
    assert bad.rpartition(".")[2] not in text


async def test_one_requests_user_does_not_show_in_the_next_ones_line(
    capsys: pytest.CaptureFixture[str], database: str
) -> None:
    async with serving(database, log_format="json") as service:
        await service.client.get(TASKS)
        capsys.readouterr()
        await service.client.get("/nope")
    [line] = Lines(capsys)
    assert "user" not in line


async def test_a_failure_says_nothing_of_the_inside_and_the_log_everything(
    capsys: pytest.CaptureFixture[str], database: str, pool: Pool
) -> None:
    async with serving(database, log_format="json") as service:
        await sql(pool, "ALTER TABLE tasks RENAME COLUMN document TO text")
        await service.pool.server_of("ann")  # as above
        capsys.readouterr()
        answer = await service.client.get(TASKS)
    problem = assert_problem(answer, 500)
    assert problem["hint"] == FAULTS["broken"].hint
    assert "column" not in answer.text
    failure, request = Lines(capsys)
    assert 'column "document" does not exist' in failure["exception"]
    assert failure["request_id"] == request["request_id"] == problem["request_id"]
    assert failure["level"] == "error"
    assert request["status"] == 500


async def test_requests_without_a_database_are_503_and_health_says_so(server: str, empty_database: str) -> None:
    name = urlsplit(empty_database).path.removeprefix("/")
    async with serving(empty_database) as service:
        await execute(
            server,
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        for _ in range(3):
            answer = await service.client.get(TASKS)
            assert assert_problem(answer, 503)["hint"] == FAULTS["unreachable"].hint
            assert answer.headers["retry-after"] in ("1", "2", "3")
        answer = await service.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
        assert (await service.client.get("/livez")).status_code == 200


async def test_a_connection_lost_in_a_write_is_503_and_does_not_say_that_nothing_happened(
    database: str, pool: Pool
) -> None:
    async with serving(database) as service:
        task = (await service.client.post(TASKS, json={"title": "x"})).json()
        async with pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            writing = asyncio.create_task(service.client.patch(f"{TASKS}/{task['id']}/complete"))
            await sql(pool, "SELECT pg_terminate_backend($1::integer)", await until_locked_out(pool))
            answer = await writing
        assert assert_problem(answer, 503)["hint"] == FAULTS["unknown"].hint
        assert "retry-after" not in answer.headers
        found = (await service.client.get(f"{TASKS}/{task['id']}")).json()
        assert found["version"] - task["version"] in (0, 1)  # a pooler may take its time to cancel


@pytest.mark.parametrize("setting", ["lock_timeout = 50", "statement_timeout = 500"])
async def test_a_write_that_waits_too_long_is_503(database: str, pool: Pool, setting: str) -> None:
    name = await pool.fetchval("SELECT current_database()")
    await sql(pool, f"ALTER DATABASE {name} SET {setting}")
    async with serving(database) as service:
        await service.client.post(TASKS, json={"title": "x"})
        async with pool.acquire() as other, other.transaction():
            await other.execute("SELECT FROM streams WHERE user_id = 'ann' FOR UPDATE")
            assert_problem(await service.client.post(TASKS, json={"title": "y"}), 503)
        assert len((await service.client.get(TASKS)).json()) == 1


async def test_a_client_that_goes_away_is_no_failure_of_ours(capsys: pytest.CaptureFixture[str], database: str) -> None:
    async with serving(database, log_format="json") as service:
        capsys.readouterr()
        messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(messages)

        async def send(_message: Any) -> None:
            raise AssertionError("there is nobody to answer")

        headers = [(b"authorization", f"Bearer {token()}".encode())]
        scope = {"type": "http", "method": "POST", "path": TASKS, "query_string": b"", "headers": headers}
        transport: Any = service.client._transport
        await transport.app(scope, receive, send)
    assert [line["event"] for line in Lines(capsys)] == ["client went away", "request"]


@pytest.mark.parametrize("path", ["/health", "/readyz"])
async def test_health_is_known_without_a_token(service: Service, path: str) -> None:
    answer = await service.client.get(path, headers={"Authorization": ""})
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "database": "reachable", "version": version("daybook")}


async def test_liveness_never_touches_the_database(service: Service, pool: Pool) -> None:
    await sql(pool, "DROP FUNCTION daybook_lock_stream")
    assert (await service.client.get("/livez")).json() == {"status": "alive"}
    assert (await service.client.get("/readyz")).status_code == 503


async def test_readiness_asks_at_most_once_a_second(service: Service, pool: Pool) -> None:
    assert (await service.client.get("/readyz")).status_code == 200
    await sql(pool, "DROP FUNCTION daybook_lock_stream")
    assert (await service.client.get("/readyz")).status_code == 200


async def test_probes_are_logged_only_when_they_fail(
    capsys: pytest.CaptureFixture[str], database: str, pool: Pool
) -> None:
    async with serving(database, log_format="json") as service:
        capsys.readouterr()
        for path in ("/health", "/livez", "/readyz"):
            await service.client.get(path)
        assert list(Lines(capsys)) == []
        await sql(pool, "DROP FUNCTION daybook_lock_stream")
        await asyncio.sleep(1.1)
        await service.client.get("/health")
        assert [line["event"] for line in Lines(capsys)] == ["database unavailable", "request"]


async def test_a_mismatch_is_warned_of_at_the_start(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(database) as service:
        created = await service.client.post("/api/ann/tasks", json={"title": "Secret plans"})
        await sql(service.pool, "UPDATE tasks SET version = 7")
    capsys.readouterr()
    async with serving(database, log_format="json"):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [warning] = [line for line in lines if line["level"] == "warning"]
    assert "daybook verify" in warning["event"]
    assert (warning["table"], warning["user_id"], warning["task_id"]) == ("tasks", "ann", created.json()["id"])
    assert "Secret" not in str(lines)


@on_plain_postgres
async def test_a_log_that_is_not_guarded_is_warned_of_at_the_start(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await execute(
        database,
        "ALTER TABLE events DISABLE TRIGGER append_only",
        "ALTER TABLE events_p03 DISABLE TRIGGER append_only",
        "ALTER TABLE events_p03 ENABLE TRIGGER append_only",  # and not ALWAYS, as it was
    )
    capsys.readouterr()
    async with serving(database, log_format="json"):
        pass
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [warning] = [line for line in lines if line["level"] == "warning"]
    assert sorted(warning["tables"]) == ["events", "events_p03"]


@pytest.mark.parametrize("problem", Problem.__subclasses__())
def test_every_problem_has_a_sentence_for_the_person_at_the_screen(problem: type[Problem]) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z' ,]+\.( [A-Z][A-Za-z' ,]+\.)*", problem.sentence)
    assert not re.search(r"\b(UUID|JSON|JWT|token|body|header|request_id|ETag|HTTP|Idempotency)\b", problem.sentence)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    [
        ("GET", f"{TASKS}/019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11", None, 404, "Task not found."),
        ("GET", "/nope", None, 404, "Not found."),
        ("GET", "/api/bob/tasks", None, 403, "You can only access your own tasks."),
        ("POST", TASKS, {"title": ""}, 422, "Title must not be empty."),
        ("POST", TASKS, {}, 422, "Title is required."),
        ("POST", TASKS, {"title": "x" * 256}, 422, "Title must have at most 255 characters."),
        ("POST", TASKS, {"title": 1}, 422, "Title must be text."),
        (
            "POST",
            TASKS,
            {"title": "x", "description": "x" * 5001},
            422,
            "Description must have at most 5,000 characters.",
        ),
        ("POST", TASKS, {"title": "x", "completed": 1}, 422, "Completed must be true or false."),
        ("POST", TASKS, [], 422, "The body must be a JSON object."),
        ("PUT", f"{TASKS}/019a9e3c-5f3a-7c21-9d52-3d0c5f0e8a11", [], 422, "The body must be a JSON object."),
    ],
)
async def test_a_problem_says_in_a_sentence_what_is_wrong(
    service: Service, method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    problem = assert_problem(await service.client.request(method, path, json=body), status)
    assert problem["detail"] == sentence


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        (f"{TASKS}?limit=0&status=x", "status must be 'all', 'pending' or 'completed'. limit must be at least 1."),
        (f"{TASKS}/x", "task_id must be a UUID."),
        (f"{TASKS}?page=2&offset=3", "cursor, offset (or skip) and page exclude each other; give one of them."),
    ],
)
async def test_a_fault_that_only_a_developer_can_mend_is_named_in_the_hint(
    service: Service, path: str, hint: str
) -> None:
    problem = assert_problem(await service.client.get(path), 400)
    assert (problem["hint"], "limit" in problem["detail"]) == (hint, False)


async def test_a_problem_quotes_a_bounded_part_of_the_request(service: Service) -> None:
    headers = {"Content-Type": "x" * 30_000}
    answer = await service.client.post(TASKS, content=b"{}", headers=headers)
    assert (answer.status_code, len(answer.content) < 1000) == (415, True)


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        ("Café/1.0 (日本語)".encode(), "Café/1.0 (日本語)"),
        ("Café/1.0".encode("latin-1"), "Café/1.0"),
        (b"plain/1.0", "plain/1.0"),
        ("é".encode() * 600, "é" * 512),
    ],
)
async def test_the_log_records_the_agent_as_it_is_written(
    service: Service, pool: Pool, sent: bytes, recorded: str
) -> None:
    await service.client.post(TASKS, json={"title": "x"}, headers={b"User-Agent": sent})
    assert await pool.fetchval("SELECT client_agent FROM events") == recorded
