"""Responses to requests that never reach the app: they are refused while they arrive.

Invariant: such a response is a problem document with the same headers as the app's own, and it ends the connection.
"""

import re
from collections.abc import Iterable

import structlog
from uuid_utils.compat import uuid7
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.cors import cors_headers
from api.middleware import SECURITY_HEADERS
from api.problems import Problem, problem_response
from config.origins import Origins

_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]*)\r\n", re.IGNORECASE)
_VISIBLE = re.compile(rb"[!-~]+")

_log = structlog.get_logger(__name__)


def refusal_bytes(problem: Problem, *, origins: Origins | None, origin: str | None) -> bytes:
    """Make the response, head and body, and log it. A page's script may read it if `origin` is one of `origins`."""
    request_id = uuid7().hex
    _log.info("request refused", request_id=request_id, status=problem.status, reason=str(problem))
    response = problem_response(problem, request_id=request_id)
    response.headers.update(
        {
            "X-Request-ID": request_id,
            **SECURITY_HEADERS,
            **({} if origins is None else cors_headers(origins, origin)),
            "Connection": "close",
        }
    )
    head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body)


def origin_in(headers: Iterable[tuple[bytes, bytes]], head: bytes | bytearray | None) -> str | None:
    """Return the value of `Origin`, if it has arrived: among the parsed headers, else in an incomplete head."""
    found = next((value for name, value in headers if name == b"origin"), None)
    if found is None and head:  # the parser keeps a header until the next one begins
        line = _ORIGIN.search(head)
        found = line and line[1]
    origin = (found or b"").strip(b" \t")
    return origin.decode() if _VISIBLE.fullmatch(origin) else None
