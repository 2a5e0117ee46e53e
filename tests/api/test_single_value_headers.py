"""A header field with a single value is sent once (RFC 9110, section 5.3)."""

from collections.abc import AsyncIterator

import pytest

from tests.service import Service, bearer, listening
from tests.sockets import App, Connection, connected

pytestmark = pytest.mark.once


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    async with listening(App()) as port, connected(port) as connection:
        yield connection


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Host: a\r\n", 200),
        (b"Host: a\r\nhost: a\r\n", 400),
        (b"Host: a\r\nX-A: b\r\nHost: b\r\n", 400),
        (b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n", 400),
        (b"Authorization: Bearer a\r\nAuthorization: Basic b\r\n", 400),
        (b"Content-Type: application/json\r\nContent-Type: text/plain\r\n", 400),
        (b"Origin: https://a\r\nOrigin: https://b\r\n", 400),
        (b"Content-Length: 0\r\nContent-Length: 0\r\n", 400),
        (b'Accept: a/b\r\nAccept: c/d\r\nIf-Match: "1"\r\nIf-Match: "2"\r\n', 200),
        (b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n", 200),
    ],
)
async def test_a_field_of_one_value_is_taken_once(connection: Connection, lines: bytes, status: int) -> None:
    await connection.send(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    answer = await connection.answer()
    assert answer.status == status
    if status == 400:
        assert answer.problem["type"] == "/problems/bad-request"
        assert await connection.closed()


async def test_a_probe_in_http_1_0_needs_no_host(connection: Connection) -> None:
    await connection.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await connection.answer()).status == 200


async def test_an_idempotency_key_is_taken_once(service: Service) -> None:
    async with listening(service.asgi) as port, connected(port) as connection:
        head = f"POST /api/ann/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        keys = "Idempotency-Key: a\r\nIdempotency-Key: b\r\n"
        await connection.send(f'{head}{keys}Content-Length: 14\r\n\r\n{{"title": "x"}}'.encode())
        assert (await connection.answer()).status == 400
