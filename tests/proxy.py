"""A reverse proxy on loopback that serves an app under a path prefix, and strips it or doesn't."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def proxying(port: int, prefix: str, *, strips: bool, headers: str = "") -> AsyncIterator[str]:
    """Yield the app's URL behind a proxy, which adds these header lines, and answers 404 outside the prefix."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, _, rest = head.partition(b"\r\n")
            method, target, version = line.split(b" ")
            if not target.startswith(f"{prefix}/".encode()):
                writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
                return
            if strips:
                target = target.removeprefix(prefix.encode())
            there, here = await asyncio.open_connection("127.0.0.1", port)
            here.write(b"%b %b %b\r\nConnection: close\r\n%b%b" % (method, target, version, headers.encode(), rest))
            sending = asyncio.create_task(_pass_on(reader, here))
            await _pass_on(there, writer)
            sending.cancel()
            await asyncio.wait([sending])
            here.close()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{prefix}"


async def _pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        to.write(data)
        await to.drain()
