"""Client modules as public frontends have them, run by Node against the service."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.service import Service, listening, token

CLIENTS = Path(__file__).parents[1] / "clients"

pytestmark = [
    pytest.mark.edge,
    pytest.mark.skipif(shutil.which("node") is None, reason="Node isn't installed"),
]


@pytest.mark.parametrize("client", ["plain_fetch", "instance", "offline_queue", "sorted_table"])
async def test_a_client_as_frontends_have_it_finds_what_it_expects(service: Service, client: str) -> None:
    async with listening(service.asgi) as port:
        process = await asyncio.create_subprocess_exec(
            *("node", str(CLIENTS / "run.mjs"), client, f"http://127.0.0.1:{port}", "ann", token()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
