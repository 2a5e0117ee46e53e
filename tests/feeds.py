"""A reader of a feed, on a socket of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.service import bearer


class FeedReader:
    """A client that reads a feed message by message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.head = ""
        self._text = ""

    async def _more(self) -> bool:
        size = int((await self._reader.readline()).strip() or b"0", 16)
        piece = await self._reader.readexactly(size + 2)
        self._text += piece[:-2].decode()
        return size > 0

    async def message(self) -> dict[str, str] | None:
        """Return the next message's fields; `None` at the end."""
        async with asyncio.timeout(20):
            while "\n\n" not in self._text:
                if not await self._more():
                    return None
        message, _, self._text = self._text.partition("\n\n")
        fields = (line.partition(": ") for line in message.split("\n"))
        return {name: text for name, _, text in fields}

    async def event(self) -> Any:
        """Return the next event's data, and check its id and type; `None` at the end."""
        while (message := await self.message()) is not None:
            if "data" in message:
                data = json.loads(message["data"])
                assert (message["id"], message["event"]) == (str(data["seq"]), data["type"])
                return data
        return None


@asynccontextmanager
async def reading(port: int, path: str, *, user: str = "ann", **headers: str) -> AsyncIterator[FeedReader]:
    """Yield a reader of the feed at this path, once the answer's head is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    sent = {"Host": "x", **bearer(user), **{name.replace("_", "-"): text for name, text in headers.items()}}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {text}" for name, text in sent.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    made = FeedReader(reader, writer)
    try:
        made.head = (await reader.readuntil(b"\r\n\r\n")).decode()
        yield made
    finally:
        writer.close()
