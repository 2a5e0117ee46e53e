"""A network between the service and Postgres that fails on demand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NamedTuple
from urllib.parse import quote

from db.dsn import connect_arguments


def _flow() -> asyncio.Event:
    flowing = asyncio.Event()
    flowing.set()
    return flowing


class Request(NamedTuple):
    """A request that the client has sent and the server doesn't have yet, and both ends of its connection."""

    data: bytes
    client: asyncio.WriteTransport
    server: asyncio.WriteTransport


async def _let_pass(_request: Request) -> None:
    """Send a request on at once."""


class Link:
    """A link that passes everything on, both ways, until it is told otherwise."""

    def __init__(self, dsn: str) -> None:
        self._arguments = connect_arguments(dsn)
        self.lost: range = range(0)
        """Which of the statements from now on are executed, but their answers lost: the connection ends instead."""
        self.on_request: Callable[[Request], Awaitable[None]] = _let_pass
        """Called with each request, which the server gets once this returns, unless the server's end was aborted.

        The client hears of that only then, too.
        """
        self._statements = 0
        self._flowing = _flow()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Yield the DSN of the same database at the other end."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        user, password = (quote(self._arguments[name] or "", safe="") for name in ("user", "password"))
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://{user}:{password}@127.0.0.1:{port}/{self._arguments['database']}?sslmode=disable"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose(self, lost: range) -> None:
        """Lose the answers to these statements from now on, the first being number 0."""
        self._statements, self.lost = 0, lost

    def stall(self) -> None:
        """Let nothing through from now on, either way, nor end any connection."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def forget(self) -> None:
        """Forget the present connections for good, as a router might; new connections flow."""
        self._flowing.clear()
        self._flowing = _flow()

    def lead_to(self, dsn: str) -> None:
        """Make connections to another server from now on; the present ones stay where they are."""
        self._arguments = {**connect_arguments(dsn), "database": self._arguments["database"]}

    def drop(self) -> None:
        """End every connection that there is."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await self._connected()
        except OSError:
            writer.transport.abort()
            return
        flowing, held = self._flowing, asyncio.Lock()
        for each in (
            self._requests(flowing, held, reader, writer, there[1]),
            self._answers(flowing, held, there[0], writer),
        ):
            task = asyncio.create_task(each)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._arguments["host"], self._arguments["port"]
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _requests(
        self,
        flowing: asyncio.Event,
        held: asyncio.Lock,
        source: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        to: asyncio.StreamWriter,
    ) -> None:
        with _ending(to):
            while data := await source.read(65536):
                await flowing.wait()
                async with held:
                    await self.on_request(Request(data, back.transport, to.transport))
                to.write(data)
                await to.drain()

    async def _answers(
        self, flowing: asyncio.Event, held: asyncio.Lock, source: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> None:
        with _ending(to):
            while data := await source.read(65536):
                await flowing.wait()
                if self._lost(data):
                    break
                to.write(data)
                await to.drain()
            async with held:
                pass

    def _lost(self, data: bytes) -> bool:
        if not data.startswith(b"2\0\0\0\4"):  # BindComplete: a statement has been executed
            return False
        self._statements += 1
        return self._statements - 1 in self.lost


@contextmanager
def _ending(to: asyncio.StreamWriter) -> Iterator[None]:
    """End the connection with the block."""
    with suppress(ConnectionError):  # one end is gone: so will the other be
        try:
            yield
        finally:
            to.transport.abort()
