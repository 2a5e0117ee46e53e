"""The app as tests use it: in this process, through ASGI, on a real database."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import uvicorn
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from api.app import create_app
from api.server.protocol import BoundedRequests
from config.settings import Settings
from db.pool import Pool
from events.task import Task
from tests import citus

logging.getLogger("httpx2").setLevel(logging.WARNING)  # the client's own lines are not the service's

_IN_DOCUMENT = {
    **{name: f"document::jsonb ->> '{name}'" for name in ("title", "description", "priority", "due_date")},
    "tags": "ARRAY(SELECT jsonb_array_elements_text(document::jsonb -> 'tags'))",
}
COLUMNS = ", ".join(f"{_IN_DOCUMENT.get(field, field)} AS {field}" for field in Task._fields)
"""A task's fields, from its row."""

WRONG_TITLE = """document = jsonb_set(document::jsonb, '{title}', '"Wrong"')::text"""
"""An assignment that makes a row of `tasks` differ from the log."""

SHARDED = citus.URL is not None or os.environ.get("DATABASE_SHARDED") == "true"
"""Whether the service takes its database for one that is distributed by user."""

TASKS = "/api/ann/tasks"
SECRET = "a secret for tests, of 64 bytes or more, as HS512 would have it be"


def token(user: object = "ann", /, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Make a token for `user` that holds for an hour; a claim given as None is left out."""
    all_claims = {"sub": user, "exp": datetime.now(UTC) + timedelta(hours=1), **claims}
    return jwt.encode({k: v for k, v in all_claims.items() if v is not None}, secret, algorithm)


def bearer(user: object = "ann", /, **options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, **options)}"}


@dataclass(frozen=True)
class Service:
    app: FastAPI
    asgi: ASGIApp
    client: httpx2.AsyncClient
    pool: Pool
    state: dict[str, Any]

    def as_user(self, user: str) -> httpx2.AsyncClient:
        """Return a client of the same service for another user."""
        return httpx2.AsyncClient(transport=self.client._transport, base_url=self.client.base_url, headers=bearer(user))


def value(metric: str, **labels: str) -> float:
    """Return the value of a metric of this process; 0 if nothing was counted yet."""
    return REGISTRY.get_sample_value(metric, labels) or 0


async def sql(pool: Pool, statement: str, *arguments: object) -> None:
    """Do to the database what the service never does."""
    async with pool.acquire() as connection:
        await connection.execute(statement, *arguments)


def settings(database_url: str, **options: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": database_url,
        "database_sharded": SHARDED,
        "jwt_secret": SECRET,
        **options,
    }
    return Settings(**values)


through: Callable[[str], str] = str
"""How the service gets to a database: set where all tests are to go by way of a pooler."""


@asynccontextmanager
async def serving(database_url: str, **options: Any) -> AsyncIterator[Service]:
    app = create_app(settings(through(database_url), **options))
    async with app.router.lifespan_context(app) as state:
        assert state is not None

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {**scope.get("state", {}), **state}
            await app(scope, receive, send)

        transport = httpx2.ASGITransport(with_state, client=("192.0.2.7", 4711))
        async with httpx2.AsyncClient(transport=transport, base_url="http://daybook", headers=bearer()) as client:
            yield Service(app, with_state, client, state["pool"], dict(state))


@asynccontextmanager
async def listening(app: ASGIApp, app_state: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[int]:
    """Serve the app on loopback behind the protocol that `daybook serve` uses; yield the port."""
    options = {"lifespan": "off", "log_config": None, "access_log": False, "proxy_headers": False, **options}
    config = uvicorn.Config(app, http=BoundedRequests, ws="none", **options)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedRequests(config, state, app_state or {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        await server.wait_closed()
        while state.connections:
            await asyncio.sleep(0)
