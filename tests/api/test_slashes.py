"""A trailing slash and doubled slashes are served without a redirect (docs/http-api.md, "Paths and ids")."""

import json

import pytest

from tests.service import Service, bearer, listening
from tests.sockets import connected

pytestmark = pytest.mark.edge


@pytest.mark.parametrize("path", ["//api/ann/tasks", "/api//ann///tasks", "/api/ann/tasks//", "///api/ann/tasks/"])
async def test_doubled_slashes_are_served_like_single_ones(service: Service, path: str) -> None:
    """The test sends the bytes itself: a client would take a path that begins with two slashes for a host."""
    body = b'{"title": "x"}'
    async with listening(service.asgi) as port, connected(port) as connection:
        for head in (f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}", f"GET {path}?limit=1 HTTP/1.1"):
            head += f"\r\nHost: x\r\nIdempotency-Key: once\r\nAuthorization: {bearer()['Authorization']}\r\n\r\n"
            await connection.send(head.encode() + body * head.startswith("POST"))
        made, listed = await connection.answer(), await connection.answer()
    task = json.loads(made.body)
    assert (made.status, made.headers["location"]) == (201, f"/api/ann/tasks/{task['id']}")
    assert (listed.status, json.loads(listed.body)) == (200, [task])
    repeated = await service.client.post("/api/ann/tasks", content=body, headers={"Idempotency-Key": "once"})
    assert repeated.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health//", 200), ("//livez", 200), ("//nowhere//", 404), ("/api//tasks", 405), ("//api//bob//tasks", 403)],
)
async def test_slashes_lead_to_no_other_route(service: Service, path: str, status: int) -> None:
    async with listening(service.asgi) as port, connected(port) as connection:
        await connection.send(f"GET {path} HTTP/1.1\r\nAuthorization: {bearer()['Authorization']}\r\n\r\n".encode())
        assert (await connection.answer()).status == status


async def test_the_next_page_of_such_a_path_can_be_followed(service: Service) -> None:
    for title in ("a", "b"):
        await service.client.post("/api/ann/tasks", json={"title": title})
    answer = await service.client.get("/api//ann//tasks/", params={"limit": 1})
    assert answer.headers["link"].startswith("</api/ann/tasks?")
    assert len((await service.client.get(answer.links["next"]["url"])).json()) == 1
