"""The server bears connections that send too much, too slowly, or no HTTP at all."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import repeat
from typing import cast

import pytest
from starlette.types import Receive, Scope, Send

from api import request_body
from api.server import graceful_close, incoming_request, protocol
from api.server.transport import BufferedTransport
from tests.service import Service, bearer, listening
from tests.sockets import GET, App, Connection, connected

pytestmark = pytest.mark.once


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with listening(app) as port:
        yield port


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests arrive within a tenth of a second. To be asked for before the connection."""
    monkeypatch.setattr(protocol, "_SLOWEST", 0.1)


@pytest.fixture
async def connection(port: int) -> AsyncIterator[Connection]:
    async with connected(port) as connection:
        yield connection


@pytest.fixture
async def service_connection(service: Service) -> AsyncIterator[Connection]:
    async with listening(service.asgi) as port, connected(port) as connection:
        yield connection


async def test_ordinary_requests_share_a_connection(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming_request, "_LARGEST", 100_000)  # of one, not of all
    for path in (b"/a", b"/b", b"/c"):
        await connection.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nCookie: " + b"c" * 60_000 + b"\r\n\r\n")
        assert (await connection.answer()).body == path


async def test_requests_in_one_piece_are_answered_in_turn(connection: Connection) -> None:
    await connection.send(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HT")
    assert [(await connection.answer()).body for _ in range(2)] == [b"/a", b"/b"]
    await connection.send(b"TP/1.1\r\n\r\n")
    assert (await connection.answer()).body == b"/c"


async def test_a_request_byte_by_byte_is_answered(connection: Connection) -> None:
    await connection.send(*(bytes([byte]) for byte in GET))
    assert (await connection.answer()).status == 200


async def test_a_token_without_end_is_401_and_the_answer_arrives(connection: Connection, app: App) -> None:
    head = b"GET /api/ann/tasks HTTP/1.1\r\nHost: x\r\nauthorization: Bearer "
    await connection.send(head, *[b"x" * 64 * 1024] * 16, b"\r\n\r\n")
    answer = await connection.answer()
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith('bearer error="invalid_token"')
    assert answer.headers["connection"] == "close"
    assert "too long" in answer.problem["hint"]
    assert await connection.closed()
    assert app.asked == []


async def test_a_token_of_a_megabyte_is_401_and_not_in_the_log(
    service_connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        await service_connection.send(
            b"GET /api/ann/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"eyJx" * 256 * 1024 + b"\r\n\r\n"
        )
        assert (await service_connection.answer()).status == 401
    assert caplog.records
    assert "eyJx" not in caplog.text


@pytest.mark.parametrize(
    "endless",
    [[b"X-Long: ", *[b"x" * 10_000] * 10], [b"X-Many: x\r\n" * 1000] * 10, [b"x" * 10_000] * 10],
    ids=["one header", "many headers", "one name"],
)
async def test_a_head_without_end_is_431(connection: Connection, app: App, endless: list[bytes]) -> None:
    await connection.send(GET[:-2], *endless)
    answer = await connection.answer()
    assert answer.status == 431
    assert answer.problem["type"] == "/problems/head-too-large"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert await connection.closed()
    assert app.asked == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"X-Long: " + b"x" * 65_000, 200),
        (b"X-Long: " + b"x" * 66_000, 431),
        (b"\r\n".join([b"X-Many: " + b"x" * 6_600] * 10), 431),
        (b"Authorization: Bearer " + b"x" * 66_000, 401),
    ],
)
async def test_a_head_in_one_piece_is_measured_too(connection: Connection, app: App, line: bytes, status: int) -> None:
    body = b"x" * 65_000
    await connection.send(b"POST / HTTP/1.1\r\nContent-Length: 65000\r\n" + line + b"\r\n\r\n" + body)
    assert (await connection.answer()).status == status
    assert bool(app.asked) == (status == 200)
    assert status == 200 or await connection.closed()


@pytest.mark.parametrize(("length", "status"), [(65_000, 200), (65_520, 431), (65_600, 431), (70_000, 431)])
async def test_a_long_path_is_served_or_431(connection: Connection, length: int, status: int) -> None:
    await connection.send(b"GET /" + b"x" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await connection.answer()).status == status


async def test_a_path_without_end_is_431(connection: Connection) -> None:
    await connection.send(b"GET /", *[b"x" * 10_000] * 10)
    assert (await connection.answer()).status == 431


@pytest.mark.parametrize(
    "nonsense",
    [b"\x16\x03\x01\x02\x00\x01", b"HELO daybook\r\n\r\n", b"FOO / HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"],
)
async def test_what_is_not_http_is_400(connection: Connection, nonsense: bytes) -> None:
    await connection.send(nonsense)
    answer = await connection.answer()
    assert answer.status == 400
    assert answer.problem["type"] == "/problems/bad-request"
    assert await connection.closed()


@pytest.mark.usefixtures("impatient")
async def test_a_head_that_takes_too_long_is_408(connection: Connection) -> None:
    for _ in range(2):  # the second on the connection that is kept alive
        await connection.send(GET)
        assert (await connection.answer()).status == 200
    await connection.send(GET[:10])
    answer = await connection.answer()
    assert answer.status == 408
    assert answer.problem["type"] == "/problems/request-timeout"
    assert await connection.closed()


@pytest.mark.usefixtures("impatient")
async def test_a_head_that_never_begins_ends_the_connection(connection: Connection) -> None:
    assert await connection.closed()


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_nobody_reads_ends_the_connection_when_it_takes_too_long(connection: Connection) -> None:
    await connection.send(b"GET / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx")
    assert (await connection.answer()).status == 200
    assert await connection.closed()


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [(b"", b"3E8\r\n" + b"x" * 1000 + b"\r\n"), (b"0\r\nX-Trailer: ", b"x" * 1000)],
    ids=["body", "trailer"],
)
async def test_a_body_that_nobody_reads_ends_the_connection_when_it_is_too_large(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, begins: bytes, goes_on: bytes
) -> None:
    monkeypatch.setattr(incoming_request, "_LARGEST", 100_000)
    monkeypatch.setattr(graceful_close, "_LINGER", 0.01)
    await connection.send(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await connection.answer()).status == 200
    await connection.send(begins)
    with pytest.raises(ConnectionError):
        await connection.send(*repeat(goes_on, 1_000_000))


async def test_a_slow_answer_is_not_cut_by_a_slow_request(
    connection: Connection, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.send(GET)
    assert (await connection.answer()).status == 200
    monkeypatch.setattr(protocol, "_SLOWEST", 0.1)  # from now on, from a request's first byte
    app.gate.clear()
    await connection.send(b"POST /slow HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx")
    await asyncio.sleep(0.3)
    app.gate.set()
    assert (await connection.answer()).body == b"/slow"


async def test_nonsense_behind_a_request_does_not_cut_its_answer(connection: Connection, app: App) -> None:
    app.gate.clear()
    await connection.send(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n")
    while not app.asked:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    app.gate.set()
    assert (await connection.answer()).body == b"/first"
    assert await connection.closed()


async def test_an_answer_that_takes_its_time_is_waited_for_before_hanging_up(
    connection: Connection, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graceful_close, "_LINGER", 0.02)
    app.gate.clear()
    await connection.send(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n")
    await asyncio.sleep(0.2)
    app.gate.set()
    assert (await connection.answer()).body == b"/first"
    assert await connection.closed()


@pytest.mark.usefixtures("impatient")
async def test_whoever_hangs_up_is_not_refused_anything_afterwards(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        async with connected(port) as connection:
            await connection.send(GET[:10])
        await asyncio.sleep(0.3)
    assert caplog.records == []


async def test_only_so_many_requests_may_wait_in_one_connection(connection: Connection, app: App) -> None:
    app.gate.clear()
    await connection.send(b"GET /many HTTP/1.1\r\n\r\n" * 1000)
    while not app.asked:
        await asyncio.sleep(0)
    app.gate.set()
    for _ in range(17):
        assert (await connection.answer()).body == b"/many"
    assert await connection.closed()
    assert len(app.asked) == 17


async def test_as_many_as_that_are_answered(connection: Connection, app: App) -> None:
    app.gate.clear()
    await connection.send(b"GET /many HTTP/1.1\r\n\r\n" * 17)
    app.gate.set()
    for _ in range(17):
        assert (await connection.answer()).body == b"/many"


async def test_requests_that_wait_are_not_taken_for_a_head(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming_request, "_LARGEST_HEAD", 200)
    await connection.send(b"GET /many HTTP/1.1\r\n\r\n" * 12 + b"GET /la")
    for _ in range(12):
        assert (await connection.answer()).body == b"/many"
    await connection.send(b"st HTTP/1.1\r\n\r\n")
    assert (await connection.answer()).body == b"/last"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("late", [b"\r\n", b"yz"], ids=["a blank line", "the rest of a body"])
async def test_what_comes_after_the_answer_does_not_keep_the_connection_for_ever(
    connection: Connection, late: bytes
) -> None:
    length = b"3" if late == b"yz" else b"1"
    await connection.send(b"POST / HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\nx")
    assert (await connection.answer()).status == 200
    await connection.send(late)
    assert await connection.closed()


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_is_kept_alive_outlives_its_first_deadline(connection: Connection) -> None:
    for _ in range(4):
        await connection.send(GET)
        assert (await connection.answer()).status == 200
        await asyncio.sleep(0.05)


async def test_a_trailer_is_no_header(service_connection: Connection) -> None:
    await service_connection.send(
        b"POST /api/ann/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'e\r\n{"title": "x"}\r\n0\r\n' + f"Authorization: {bearer()['Authorization']}\r\n\r\n".encode()
    )
    assert (await service_connection.answer()).status == 401


async def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graceful_close, "_SLOWEST_READER", 0.1)
    over = asyncio.Event()

    async def endless(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"x" * 64 * 1024, "more_body": True})
        finally:
            over.set()

    async with listening(endless) as port, connected(port) as connection:
        await connection.send(GET)
        await over.wait()


async def test_a_websocket_is_no_way_in(service_connection: Connection) -> None:
    await service_connection.send(
        b"GET /api/ann/tasks HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n"
    )
    assert (await service_connection.answer()).status == 401


def post(length: int) -> bytes:
    headers = f"Host: x\r\nAuthorization: {bearer()['Authorization']}\r\nContent-Length: {length}\r\n"
    return f"POST /api/ann/tasks HTTP/1.1\r\n{headers}\r\n".encode()


async def test_a_slow_body_is_408(service_connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_SLOWEST", 0.1)
    await service_connection.send(post(100), b'{"title"')
    answer = await service_connection.answer()
    assert answer.status == 408
    assert answer.problem["type"] == "/problems/request-timeout"
    assert answer.headers["connection"] == "close"
    assert await service_connection.closed()


async def test_a_body_that_is_too_large_is_413_and_the_answer_arrives(service_connection: Connection) -> None:
    for megabytes in (1, 3, 20):  # the connection goes on, but after the last
        await service_connection.send(post(megabytes * 1024 * 1024), *[b"x" * 1024 * 1024] * megabytes)
        answer = await service_connection.answer()
        assert answer.status == 413
        assert answer.problem["type"] == "/problems/body-too-large"
    assert await service_connection.closed()


@pytest.mark.parametrize("how", [b"HTTP/1.0", b"HTTP/1.1\r\nConnection: close"])
async def test_it_arrives_too_where_the_connection_ends_with_it(service: Service, how: bytes) -> None:
    for megabytes in (1, 5, 20):
        async with listening(service.asgi) as port, connected(port) as connection:
            head = post(megabytes * 1024 * 1024).replace(b"HTTP/1.1", how)
            await connection.send(head, *[b"x" * 1024 * 1024] * megabytes)
            assert (await connection.answer()).status == 413
            assert await connection.closed()


async def test_who_announces_far_too_much_is_told_that_the_connection_ends(service_connection: Connection) -> None:
    await service_connection.send(post(5 * 1024 * 1024), b"x")
    answer = await service_connection.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_a_body_that_came_with_its_head_is_in_time(
    service_connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "_SLOWEST", 0)
    await service_connection.send(post(14) + b'{"title": "x"}')
    assert (await service_connection.answer()).status == 201
    await service_connection.send(post(14) + b'{"title":')
    assert (await service_connection.answer()).status == 408


class Wire:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []
        self.write = self.told.append
        self.write_eof = partial(self.told.append, "eof")
        self.close = partial(self.told.append, "closed")
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed


LONG = b"x" * 40_000


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", b"body", b"head", b"body"], [b"headbodyheadbody"]),
        ([b"head", LONG], [b"head", LONG]),
        ([LONG, b"end"], [LONG, b"end"]),
        ([LONG[:20_000], LONG[:20_000]], [LONG[:20_000], LONG[:20_000]]),
    ],
)
async def test_what_is_written_in_one_turn_leaves_in_one_piece_unless_it_is_long(
    written: list[bytes], told: list[bytes | str]
) -> None:
    wire, loop = Wire(), asyncio.get_running_loop()
    transport = BufferedTransport(cast("asyncio.Transport", wire), lambda: None, loop)
    for piece in written:
        transport.write(piece)
    await asyncio.sleep(0)
    assert wire.told == told
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.told == [*told, b"next"]


async def test_who_sends_no_more_still_gets_the_answer(port: int) -> None:
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        writer.write_eof()
        assert (await reader.read()).endswith(b"\r\n\r\n/")
        writer.close()


async def test_what_was_written_leaves_before_the_end() -> None:
    wire, loop = Wire(), asyncio.get_running_loop()
    transport = BufferedTransport(cast("asyncio.Transport", wire), lambda: None, loop)
    transport.write(b"answer")
    transport.write_eof()
    transport.write(b"last")
    transport.close_now()
    await asyncio.sleep(0)
    assert wire.told == [b"answer", "eof", b"last", "closed"]


async def test_nothing_is_written_to_who_has_left() -> None:
    wire, loop = Wire(), asyncio.get_running_loop()
    transport = BufferedTransport(cast("asyncio.Transport", wire), lambda: None, loop)
    transport.write(b"answer")
    wire.closed = True
    await asyncio.sleep(0)
    assert wire.told == []
