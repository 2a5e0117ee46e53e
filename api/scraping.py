"""`/metrics` on the API's own port, where that was asked for: the numbers of all users are in it."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from config.metrics import everything


def scraping(folder: Path) -> APIRouter:
    """The route, in whichever of Prometheus' formats is asked for."""
    router, registry = APIRouter(), everything(folder)

    @router.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": media_type})

    return router
