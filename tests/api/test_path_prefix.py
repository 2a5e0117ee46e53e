"""The service under a path prefix: its links lead back through the proxy, and no client can redirect them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urljoin

import httpx2
import pytest

from db.pool import Pool
from tests.proxy import proxying
from tests.service import TASKS, Service, bearer, listening, serving

pytestmark = pytest.mark.edge

HEADER = "X-Forwarded-Prefix"


class Front(NamedTuple):
    """A set-up of a proxy and the service."""

    settings: dict[str, Any]
    strips: bool
    headers: str = ""


FRONTS = {
    "strips and says so": Front({"forwarded_allow_ips": "127.0.0.1"}, strips=True, headers=f"{HEADER}: /daybook\r\n"),
    "strips, and the setting says so": Front({"root_path": "/daybook"}, strips=True),
    "passes it on": Front({"root_path": "/daybook/"}, strips=False),
    "says so, and the setting too": Front(
        {"forwarded_allow_ips": "127.0.0.0/8", "root_path": "/daybook"}, strips=True, headers=f"{HEADER}: /daybook/\r\n"
    ),
}


@asynccontextmanager
async def in_front(database: str, front: Front, prefix: str = "/daybook") -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of the service as that proxy serves it; relative URLs begin behind the prefix."""
    async with (
        serving(database, **front.settings) as service,
        listening(service.asgi) as port,
        proxying(port, prefix, strips=front.strips, headers=front.headers) as url,
        httpx2.AsyncClient(base_url=url, headers=bearer(), trust_env=False) as client,
    ):
        yield client


async def pages(client: httpx2.AsyncClient, path: str) -> list[Any]:
    """Return all that is on this page and on those that `Link` leads to."""
    found: list[Any] = []
    answer = await client.get(path)
    while True:
        assert answer.status_code == 200
        found += answer.json()
        link = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("link", ""))
        if link is None:
            return found
        answer = await client.get(urljoin(str(answer.url), link[1]))


@pytest.mark.parametrize("name", FRONTS)
async def test_location_and_link_lead_where_they_say(database: str, name: str) -> None:
    async with in_front(database, FRONTS[name]) as client:
        titles = ["a", "b", "c"]
        for title in titles:
            made = await client.post(TASKS, json={"title": title})
            assert made.status_code == 201
            assert made.headers["location"].startswith("/daybook/api/ann/tasks/")
            found = await client.get(urljoin(str(made.url), made.headers["location"]))
            assert found.json() == made.json()
            task = urljoin(str(made.url), made.headers["location"])
            await client.patch(task, json={"title": title * 2})
            history = await pages(client, f"{task}/history?limit=1")
            assert [each["type"] for each in history] == ["TaskCreated", "TaskUpdated"]
        assert [each["title"] for each in await pages(client, f"{TASKS}?limit=1&sort=title")] == ["aa", "bb", "cc"]
        assert [each["seq"] for each in await pages(client, "/api/ann/audit?limit=4")] == [6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("name", FRONTS)
async def test_the_document_says_where_the_service_is(database: str, name: str) -> None:
    async with in_front(database, FRONTS[name]) as client:
        document = (await client.get("/openapi.json")).json()
        assert document["servers"] == [{"url": "/daybook"}]
        assert TASKS.replace("ann", "{user_id}") in document["paths"]


@pytest.mark.parametrize("name", FRONTS)
async def test_errors_and_slashes_are_as_without_a_prefix(database: str, name: str) -> None:
    async with in_front(database, FRONTS[name]) as client:
        assert (await client.get(f"{TASKS}/")).status_code == 200
        assert (await client.get(f"{TASKS.replace('/tasks', '//tasks')}//")).status_code == 200
        assert (await client.get("/")).headers["location"] == "/daybook/ui/"
        assert (await client.get("/nope")).json()["type"] == "/problems/not-found"
        refused = await client.delete(TASKS)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.get("/livez")).status_code == 200


async def test_probes_reach_the_service_without_the_prefix_too(database: str) -> None:
    async with serving(database, root_path="/daybook") as service:
        for path in ("/livez", "/readyz", "/daybook/livez", "/daybook/readyz"):
            assert (await service.client.get(path)).status_code == 200
        for path in ("http://daybook//daybook/livez", "http://daybook///daybook//livez"):
            assert (await service.client.get(path)).status_code == 200
        for path in ("/daybook/daybook", "/daybook/daybook/livez", "/daybooks/livez"):
            assert (await service.client.get(path)).status_code == 404


@asynccontextmanager
async def trusting(database: str, **options: Any) -> AsyncIterator[Service]:
    """Yield a service that believes the tests' own client."""
    async with serving(database, forwarded_allow_ips="192.0.2.0/24", **options) as service:
        yield service


@pytest.mark.parametrize(
    ("headers", "prefix"),
    [
        ([(HEADER, "/a")], "/a"),
        ([(HEADER, "/a/b-c_d.e~1")], "/a/b-c_d.e~1"),
        ([(HEADER, " /a/ ")], "/a"),
        ([(HEADER, "/a, /b")], "/a/b"),
        ([(HEADER, "/a/,/b/")], "/a/b"),
        ([(HEADER, "/a"), (HEADER, "/b")], "/a/b"),
        ([(HEADER, "/api")], "/api"),
        ([(HEADER, "/")], ""),
        ([(HEADER, "")], ""),
        ([], ""),
    ],
)
async def test_the_prefixes_that_several_proxies_strip_are_joined(
    database: str, headers: list[tuple[str, str]], prefix: str
) -> None:
    async with trusting(database) as service:
        made = await service.client.post(TASKS, json={"title": "x"}, headers=httpx2.Headers(headers))
        assert made.headers["location"] == f"{prefix}{TASKS}/{made.json()['id']}"


@pytest.mark.parametrize(
    "nasty",
    [
        "//evil.example",
        "///evil.example",
        "/a//evil.example",
        "/, //evil.example",
        "https://evil.example",
        "https:/evil.example",
        "javascript:alert(1)",
        "evil.example",
        "\\\\evil.example",
        "/\\evil.example",
        "/a/../..",
        "/..",
        "/.",
        "/a/./b",
        "/a\r\nSet-Cookie: x=1",
        "/a\0",
        "/a\tb",
        "/a b",
        '/a"',
        "/a'",
        "/a>",
        "/<script>",
        "/a;b",
        "/a?b",
        "/a#b",
        "/%2f%2fevil.example",
        "/a%0d%0aX: y",
        "/a@b",
        "/\xe9",
        "/" + "a" * 255,
        "/a" * 200,
    ],
)
async def test_no_other_text_reaches_an_answer(unchanged_database: str, nasty: str) -> None:
    async with trusting(unchanged_database) as service:
        answer = await service.client.get(f"{TASKS}?limit=1", headers={HEADER.encode(): nasty.encode("latin-1")})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert HEADER in answer.json()["hint"]
        assert "evil" not in answer.text + str(answer.headers)
        assert "location" not in answer.headers
        assert "link" not in answer.headers


@pytest.mark.parametrize("proxies", [None, "127.0.0.1", "192.0.2.8", "192.0.3.0/24", "2001:db8::/32"])
async def test_proxies_that_are_not_named_are_not_believed(database: str, proxies: str | None) -> None:
    async with serving(database, forwarded_allow_ips=proxies) as service:
        for prefix in ("/a", "//evil.example"):
            made = await service.client.post(TASKS, json={"title": "x"}, headers={HEADER: prefix})
            assert made.headers["location"] == f"{TASKS}/{made.json()['id']}"


@pytest.mark.parametrize("proxies", ["192.0.2.7", "192.0.2.9/24", "10.0.0.1, 192.0.2.7", "*", "10.0.0.1, *"])
async def test_the_named_proxies_are_believed_about_prefix_and_address(database: str, pool: Pool, proxies: str) -> None:
    async with serving(database, forwarded_allow_ips=proxies) as service:
        said = {HEADER: "/a", "X-Forwarded-For": "203.0.113.9"}
        made = await service.client.post(TASKS, json={"title": "x"}, headers=said)
        assert made.headers["location"].startswith("/a/api/")
        assert await pool.fetchval("SELECT client_address FROM events") == "203.0.113.9"


async def test_the_log_names_the_route_and_not_the_prefix(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with trusting(database, log_format="json") as service:
        capsys.readouterr()
        await service.client.get(TASKS, headers={HEADER: "/a"})
        assert '"route": "/api/{user_id}/tasks"' in capsys.readouterr().err


async def test_a_write_may_be_repeated_by_another_way_in(database: str) -> None:
    async with trusting(database, root_path="/daybook") as service:
        first, *others = [
            await service.client.post(
                path, json={"title": "x"}, headers={"Idempotency-Key": "k", **({HEADER: prefix} if prefix else {})}
            )
            for path, prefix in ((TASKS, ""), (f"/daybook{TASKS}", ""), (TASKS, "/a"), (f"{TASKS}/", "/daybook"))
        ]
        assert first.status_code == 201
        for each in others:
            assert (each.status_code, each.json()) == (201, first.json())
            assert each.headers["idempotency-replayed"] == "true"
