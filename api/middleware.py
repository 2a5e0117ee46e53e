"""Pure ASGI middleware around every request: its id, its log line, slashes, HEAD, proxies, and unexpected errors."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable
from functools import lru_cache
from http import HTTPStatus

import structlog
from prometheus_client import Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

from api.problems import MAYBE_CHANGED, METHODS, BadRequest, Failure, Unavailable, problem_response
from config.settings import PATH_PREFIX
from telemetry import metrics

_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
PROBES = frozenset({"/livez", "/readyz", "/health"})
"""Routes that probes request every few seconds, and that cost nothing: logged at INFO only if they fail."""

_log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)
"""The standard library's logger below `_log`, which tells cheaply if a level is disabled."""


@lru_cache(1024)
def _series(method: str, route: str, status: int) -> Histogram:
    """Return the metric for these labels, cached: looking it up takes longer than counting."""
    return metrics.REQUESTS.labels(method, route, status)


class RequestContext:
    """Middleware that gives the request an id, and logs its end: method, route's template, status, ms, user, id.

    The line has `cut_off` if the response began, and didn't come to its end: its client went away, or it failed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = sent if _SANE.fullmatch(sent) else uuid7().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status, whole = 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        started = time.perf_counter()
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", None)
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in METHODS else "other"
            _series(method, route or "none", status).observe(seconds)
            level = logging.DEBUG if route in PROBES and status == HTTPStatus.OK else logging.INFO
            if _logger.isEnabledFor(level):
                _log.log(
                    level,
                    "request",
                    method=scope["method"],
                    route=route,
                    status=status or None,
                    ms=round(seconds * 1000, 1),
                    **({"cut_off": True} if status and not whole else {}),
                )
            structlog.contextvars.reset_contextvars(**bound)
            structlog.contextvars.unbind_contextvars("user", "actor", "audited")


SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class SecurityHeaders:
    """Middleware that forbids guessing of types, and caching unless a response sets its own `Cache-Control`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = [name.lower() for name, _ in headers]
                message["headers"] = headers + [header for header in _SECURITY if header[0] not in names]
            await send(message)

        await self.app(scope, receive, send_with_headers)


_SLASHES = re.compile("//+")


class Slashes:
    """Middleware that makes doubled slashes in a path single, and drops a slash at its end.

    It doesn't redirect: a redirect would lose a body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path: str = scope.get("path", "")
        if path.endswith("/") or "//" in path:
            scope["path"] = _SLASHES.sub("/", path).rstrip("/") or "/"
        return self.app(scope, receive, send)


class _HeadSent(Exception):
    """Raised to end an endpoint that has sent its response's head, since a HEAD request needs no body."""


class HeadRequests:
    """Middleware that answers HEAD on every GET route, with GET's status and headers (RFC 9110, section 9.3.2).

    The endpoint sees a GET, and ends as soon as the head of its response has been sent: an export reads no more than it
    needed to begin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        asks_for_head = scope["type"] == "http" and scope["method"] == "HEAD"
        return (self._head if asks_for_head else self.app)(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        # From ASGI 2.4 on `send` may raise: a streaming response then has no task of its own, and frees its resources
        # at once.
        as_get = {**scope, "method": "GET", "asgi": {**scope.get("asgi", {}), "spec_version": "2.4"}}

        async def send_head(message: Message) -> None:
            await send(message)
            await send({"type": "http.response.body"})
            raise _HeadSent

        try:
            await self.app(as_get, receive, send_head)
        except _HeadSent:
            pass
        finally:
            scope["route"] = as_get.get("route")  # for the log line


class TrustedProxies(_TrustedHosts):
    """The addresses and networks in FORWARDED_ALLOW_IPS, as uvicorn reads them."""


class BehindProxies(ProxyHeadersMiddleware):
    """Middleware that trusts named proxies on the client's address, as uvicorn does, and on the path prefix.

    The prefix is the part of the path that the proxies have stripped (`X-Forwarded-Prefix`), or the configured one if
    they name none. Invariant: afterwards `path` begins with the prefix, `root_path`, as ASGI requires, even if it was
    stripped on the way. Routes are found without it, and links in responses lead back through the proxies.
    """

    def __init__(self, app: ASGIApp, *, trusted_hosts: str, root_path: str) -> None:
        super().__init__(app, trusted_hosts)  # type: ignore[arg-type] # uvicorn's own names for the same types
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override] # as above
        stripped = "".join(each.strip().rstrip("/") for each in self._forwarded(scope))
        if stripped and not PATH_PREFIX.fullmatch(stripped):
            problem = BadRequest(
                hint="X-Forwarded-Prefix must be a path such as /daybook, of letters, digits, - . _ ~ and /: "
                "have the proxy set it."
            )
            return await problem_response(problem, request_id=scope["state"]["request_id"])(scope, receive, send)
        path, prefix = scope.get("path", ""), stripped or self._root_path
        if stripped or not f"{path}/".startswith(f"{prefix}/"):
            scope["path"] = prefix + path
        elif path == prefix:
            scope["path"] = f"{path}/"  # the root: `Slashes` has dropped its slash
        scope["root_path"] = prefix
        return await super().__call__(scope, receive, send)  # type: ignore[arg-type]

    def _forwarded(self, scope: Scope) -> list[str]:
        """Return the prefixes that trusted proxies have stripped, the outermost proxy's first."""
        values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-prefix"]
        client = scope.get("client")
        return ",".join(values).split(",") if values and client and client[0] in self.trusted_hosts else []


class CatchAll:
    """Middleware that answers 500 to uncaught errors: the log gets the details, the client only the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            _log.info("client went away")
        except asyncio.CancelledError:  # the server's time limit for requests under way is over
            _log.warning("request cut off: the service is stopping")
            if started:
                return None  # the response stays without its end, so that the client notices
            if scope["method"] in ("GET", "HEAD"):
                stopping = Unavailable(hint="The service is stopping; try again.", headers={"Retry-After": "1"})
            else:
                unknown = "The service is stopping: the change may have been made. Look, then repeat it."
                stopping = Unavailable(MAYBE_CHANGED, hint=unknown)
            await problem_response(stopping, request_id=scope["state"]["request_id"])(scope, receive, send)
        except Exception:
            if started:
                raise
            _log.exception("request failed")
            failure = Failure(hint="The log has it under this request_id.")
            await problem_response(failure, request_id=scope["state"]["request_id"])(scope, receive, send)
