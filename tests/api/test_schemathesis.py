"""The service keeps to its OpenAPI document, as schemathesis.toml and tests/fuzzing.py have it asked."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.openapi import SNAPSHOT
from tests.processes import Serving

pytestmark = [pytest.mark.edge, pytest.mark.unmeasured, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def test_the_service_answers_as_its_document_says_whatever_it_is_asked(database: str, folder: Path) -> None:
    with Serving(folder, DATABASE_URL=database, LOG_LEVEL="WARNING") as serving:
        token = re.search(r"Bearer (\S+)'", serving.greeting())
        assert token
        arguments = ("--no-color", "-H", f"Authorization: Bearer {token[1]}")
        document = f"http://127.0.0.1:{serving.port}/openapi.json"
        asked = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", document, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        assert serving.stop() == 0
    assert asked.returncode == 0, asked.stdout + "".join(serving.errors)
    operations = sum(map(len, json.loads(SNAPSHOT.read_text())["paths"].values()))
    assert f"Tested: {operations - 2}\n" in asked.stdout
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}\n" in asked.stdout
