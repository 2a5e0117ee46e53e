"""CORS, also for requests from a public page to a private address.

See docs/http-api.md, "Health, documentation and CORS".
"""

from http import HTTPStatus

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from api.problems import METHODS, BadRequest, problem_response
from config.origins import Origins

EXPOSED = (
    "ETag",
    "Link",
    "Location",
    "Allow",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
    "Daybook-Seq",
    "RateLimit",
    "RateLimit-Policy",
    "Idempotency-Replayed",
    "Content-Disposition",
)
"""Response headers that scripts may read, besides the ones that are always readable."""

_LONGEST_SHOWN = 200


class Cors(CORSMiddleware):
    """CORS middleware by which pages of the given origins may call, with any headers, also at a private address."""

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        super().__init__(
            app,
            allow_methods=METHODS,
            allow_headers=["*"],
            allow_credentials=True,
            allow_private_network=True,
            expose_headers=EXPOSED,
        )
        self._origins = origins

    def is_allowed_origin(self, origin: str) -> bool:
        return origin in self._origins

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return Starlette's preflight response, with a refusal as a problem document like every other error."""
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        if origin not in self._origins:
            reason = _refusal(origin)
        else:
            reason = f"{method[:_LONGEST_SHOWN]} is no method of this API; its methods are {', '.join(METHODS)}."
        problem = BadRequest(
            hint=reason,
            headers={
                name: value
                for name, value in response.headers.items()
                if not name.startswith("content-") and name != "access-control-allow-private-network"
            },
        )
        return problem_response(problem, request_id=structlog.contextvars.get_contextvars()["request_id"])


def _refusal(origin: str) -> str:
    if origin == "null":
        return (
            "Pages that have no origin (null: of files, or in a sandboxed frame) may not call, since any site can make "
            "one. Serve the page by HTTP, and name its origin in CORS_ORIGINS."
        )
    return f"Pages of {origin[:_LONGEST_SHOWN]} may not call. If they should, add it to the service's CORS_ORIGINS."


def cors_headers(origins: Origins, origin: str | None) -> dict[str, str]:
    """Return the headers that the middleware would add, for a response that doesn't pass through it."""
    if origin is None or origin not in origins:
        return {"Vary": "Origin"}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": ", ".join(EXPOSED),
        "Vary": "Origin",
    }
