"""The OpenAPI document as docs/openapi.json has it."""

import json
from pathlib import Path

from api.app import create_app
from tests.service import settings

SNAPSHOT = Path(__file__).parents[1] / "docs" / "openapi.json"


def text() -> str:
    """Return what the snapshot has to be."""
    document = create_app(settings("postgresql://localhost/daybook")).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(text())
