"""`/metrics` on the API's own port. It is opt-in, since it shows the numbers of all users."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from telemetry.metrics import all_metrics


def scraping(folder: Path) -> APIRouter:
    """Make a router with `/metrics`, which answers in the Prometheus format that the request accepts."""
    router, registry = APIRouter(), all_metrics(folder)

    @router.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": media_type})

    return router
