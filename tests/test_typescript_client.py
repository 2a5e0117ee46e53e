"""The TypeScript client: its types, and its own tests against a service on this database."""

import sys

import pytest

from tests.npm import CLIENT, install, needs_npm, run

pytestmark = [pytest.mark.once, pytest.mark.unmeasured, needs_npm]


def test_the_client_is_typed_as_the_document_says_and_passes_its_tests(database: str) -> None:
    install(CLIENT)
    up_to_date = run(CLIENT, "npm", "run", "-s", "types") == (CLIENT / "src/schema.d.ts").read_text()
    assert up_to_date, "src/schema.d.ts isn't as docs/openapi.json has it: `make client`"
    run(CLIENT, "npm", "run", "check")
    run(CLIENT, "npm", "test", PYTHON=sys.executable, DATABASE_URL=database)
