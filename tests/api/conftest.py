"""Fixtures for the API: a task that exists already."""

from typing import Any

import pytest

from tests.service import Service


@pytest.fixture
async def task(service: Service) -> dict[str, Any]:
    made: dict[str, Any] = (await service.client.post("/api/ann/tasks", json={"title": "Buy milk"})).json()
    return made


@pytest.fixture
def path(task: dict[str, Any]) -> str:
    return f"/api/ann/tasks/{task['id']}"
