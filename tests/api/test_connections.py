"""The number of connections is bounded, and a refused client gets an answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.server import connections, protocol
from api.server.connections import Connections
from tests.service import listening
from tests.sockets import GET, App, connected

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Connections:
    fresh = Connections()
    monkeypatch.setattr(protocol, "CONNECTIONS", fresh)
    monkeypatch.setattr(connections, "_MOST", 4)
    return fresh


@pytest.fixture(params=[(), ("127.0.0.1",)], ids=["anybody", "a trusted proxy"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async with listening(App(), {"trusted_proxies": request.param}) as port:
        yield port


async def test_a_connection_past_the_bound_is_503(
    port: int, fresh: Connections, request: pytest.FixtureRequest
) -> None:
    async with connected(port) as first, connected(port) as second, connected(port) as third:
        for each in (first, second):
            await each.send(GET)
            assert (await each.answer()).status == 200
        if "a trusted proxy" in request.node.name:
            await third.send(GET)
            assert (await third.answer()).status == 200
        else:
            refused = await third.answer()
            assert refused.problem["type"] == "/problems/overloaded"
            assert (refused.headers["connection"], "retry-after" in refused.headers) == ("close", True)
            assert await third.closed()
    while fresh._open:
        await asyncio.sleep(0.005)
    assert not fresh._by_address


def test_the_log_has_one_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    counted = Connections()
    clock = 1000.0
    monkeypatch.setattr("api.server.connections.time.monotonic", lambda: clock)
    told = [counted.add("192.0.2.1", trusted=False) for _ in range(10)]
    assert told == [True, True] + [False] * 8
    assert capsys.readouterr().out.count("connections refused") <= 1


def test_newcomers_past_what_can_be_told_are_not() -> None:
    counted = Connections()
    for number in range(4 + connections._TOLD):
        counted.add(f"192.0.2.{number}", trusted=False)
    assert counted.may_be_told()
    counted.add("192.0.2.250", trusted=False)
    assert not counted.may_be_told()


def test_descriptors_are_kept_back_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MOST", 4096)
    monkeypatch.setattr("api.server.connections.resource.getrlimit", lambda _: (1024, 1024))
    assert connections.largest() == 1024 - 128
    monkeypatch.setattr("api.server.connections.resource.getrlimit", lambda _: (-1, -1))
    assert connections.largest() == 4096
