"""What one user has under way at once is bounded, and nobody else waits for it."""

import asyncio

import asyncpg

from api.user_turns import WRITES, Turn
from db.dsn import connect_arguments
from tests.service import Service, bearer

TASKS = "/api/ann/tasks"


async def test_a_users_requests_wait_for_the_users_own_and_for_nobody_elses(database: str, service: Service) -> None:
    ann = service.client
    await ann.post(TASKS, json={"title": "x"})
    other = await asyncpg.connect(**connect_arguments(database))
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM journals WHERE user_id = 'ann' FOR UPDATE")
    creating = [
        asyncio.create_task(ann.post(TASKS, json={"title": "y"}, headers={"If-Match": "*"})) for _ in range(WRITES)
    ]
    await asyncio.sleep(0.1)
    one_more = asyncio.create_task(ann.post(TASKS, json={"title": "z"}))
    await asyncio.sleep(0.1)
    assert (await ann.get(TASKS)).status_code == 200  # reads wait for reads
    for _ in range(3):
        assert (await ann.get("/api/bob/tasks", headers=bearer("bob"))).status_code == 200
    assert (await ann.get(TASKS, headers={"Authorization": "Bearer nonsense"})).status_code == 401
    assert service.state["turns"]._taken[Turn("ann", reads=False)].free.locked()
    assert not one_more.done()
    await transaction.rollback()
    assert [(await task).status_code for task in creating] == [201] * WRITES
    assert (await one_more).status_code == 201
    await other.close()
