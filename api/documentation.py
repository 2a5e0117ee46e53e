"""The page at /docs: Swagger UI from a package, with nothing from other sites (docs/adr/0018)."""

from html import escape

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

_PACKAGE, _FOLDER = "fastapi_standalone_docs", "static/swagger"
_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui" data-document="{base}/openapi.json"></div>
<noscript>This page needs JavaScript; <a href="{base}/openapi.json">the OpenAPI document</a> doesn't.</noscript>
<script src="{base}/docs/swagger-ui-bundle.js"></script>
<script src="{base}/docs/start.js"></script>
</body>
</html>
"""
_START = """\
SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.document,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_KEPT = "public, max-age=86400"
"""Cache for a day, then revalidate by ETag: the files change with a release at most."""


def serve_page(app: FastAPI) -> None:
    """Serve the page and its files. They are read at each request, and not kept in memory."""
    files = StaticFiles(packages=[(_PACKAGE, _FOLDER)])

    async def page(request: Request) -> Response:
        base = escape(request.scope.get("root_path", ""))
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return Response(_PAGE.format(title=escape(app.title), base=base), headers=headers, media_type="text/html")

    async def start(_request: Request) -> Response:
        return Response(_START, headers={"Cache-Control": _KEPT}, media_type="text/javascript")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            raise HTTPException(404)
        answer = await files.get_response(name, request.scope)
        answer.headers["Cache-Control"] = _KEPT
        return answer

    for path, endpoint in (("/docs", page), ("/docs/start.js", start), ("/docs/{name}", file)):
        app.add_route(path, endpoint, include_in_schema=False)
