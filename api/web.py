"""The page under /ui/: the files that `web/` was built into, from memory, under a strict policy (docs/adr/0034)."""

import gzip
import json
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from config.settings import Settings

_INDEX = "index.html"
_CONFIG, _ASSETS = "__CONFIG__", "./assets/"
"""Texts of the built index that are replaced: the page's settings, and the beginning of its files' paths."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types daybook",  # the one policy: it lets the page start its own worker, and nothing else
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache for a year, without asking: the name has a hash of the content in it."""


class _File(NamedTuple):
    """A file of the page, as it is and compressed."""

    media_type: str
    content: bytes
    compressed: bytes
    etag: str


def serve_web(app: FastAPI, settings: Settings) -> None:
    """Serve the page at /ui/, and in development lead there from /. Its files are read once, here."""
    folder = files("api") / "static"
    index = (folder / _INDEX).read_text("utf-8")
    assets = dict(_read(folder / "assets"))
    config = {
        "userClaim": settings.jwt_user_claim,
        "loginUrl": str(settings.web_login_url) if settings.web_login_url else None,
    }

    async def page(request: Request) -> Response:
        base = request.scope.get("root_path", "")
        text = index.replace(_CONFIG, escape(json.dumps({"base": base, **config})))
        body = text.replace(_ASSETS, f"{escape(base)}/ui/assets/").encode()
        headers = {**_HEADERS, "Cache-Control": "no-cache", "ETag": _etag(body)}
        if _has(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="text/html")

    async def asset(request: Request) -> Response:
        file = assets.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        etag = f'{file.etag[:-1]}-gzip"' if zipped else file.etag
        headers = {**_HEADERS, "Cache-Control": _IMMUTABLE, "ETag": etag, "Vary": "Accept-Encoding"}
        if _has(request, etag):
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(file.compressed if zipped else file.content, headers=headers, media_type=file.media_type)

    async def root(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/ui/", headers={"Cache-Control": "no-store"})

    app.add_route("/ui", page, include_in_schema=False)
    app.add_route("/ui/assets/{name}", asset, include_in_schema=False)
    if settings.environment == "development":
        app.add_route("/", root, include_in_schema=False)


def _read(folder: Traversable) -> Iterator[tuple[str, _File]]:
    for each in folder.iterdir():
        content = each.read_bytes()
        media_type = _TYPES[PurePosixPath(each.name).suffix]
        yield each.name, _File(media_type, content, gzip.compress(content, mtime=0), _etag(content))


def _etag(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:32]}"'


def _has(request: Request, etag: str) -> bool:
    """Say if the browser has this representation already (RFC 9110, section 13.1.2)."""
    sent = request.headers.get("if-none-match", "")
    return sent.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in sent.split(","))
