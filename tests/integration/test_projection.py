"""The projection is the fold of the log, after any commands in any order and concurrency."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from commands.commands import Command, CreateTask, DeleteTask, EraseTask, RestoreTask, ToggleTask, UpdateTask
from commands.decider import ErasedForGood, TaskNotFound
from commands.handler import handle
from db.pool import Pool, open_pool
from events.integrity import work_units
from events.integrity.rebuild import rebuild
from events.integrity.verify import verify
from events.store import log
from events.task import Erased, Fields, Metadata, Task, evolve_erased
from tests import independent
from tests.arrange import erase_all, store_of
from tests.conftest import FROM_TEMPLATE, new_database
from tests.service import COLUMNS, SHARDED
from tests.strategies import all_fields, changes

Wish: TypeAlias = Fields | bool | Literal["delete", "restore", "erase"] | None
"""Fields to set; whether to be completed, None to toggle; to be deleted, brought back, or erased."""

wishes: st.SearchStrategy[Wish] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(["delete", "restore", "erase"]),
    changes().map(lambda change: change.after),
)

USERS = ("ann", "bob", "cleo")
DAMAGES = (
    "DELETE FROM tasks WHERE user_id = $1",
    "DELETE FROM tasks WHERE user_id = $1 AND completed",
    "UPDATE tasks SET document = replace(document, 'title', 'tile'), version = version + 1 WHERE user_id = $1",
    "UPDATE tasks SET id = md5(id::text)::uuid WHERE user_id = $1 AND NOT completed",
)


class Daybook(RuleBasedStateMachine):
    """Several users, one database; each run has users of its own."""

    tasks = Bundle[tuple[int, UUID]]("tasks")

    def __init__(self, runner: asyncio.Runner, pool: Pool) -> None:
        super().__init__()
        self.runner, self.pool = runner, pool
        self.written = 0

    @initialize()
    def users_of_this_run(self) -> None:
        run = uuid4().hex
        self.users = [f"{name}-{run}" for name in USERS]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def do(self, command: Command) -> None:
        try:
            await handle(store_of(self.pool), command, actor=command.user_id, metadata=Metadata(request_id="r"))
        except (TaskNotFound, ErasedForGood):
            assert not isinstance(command, CreateTask)
        if isinstance(command, EraseTask):
            await store_of(self.pool).erase_content_of_task(command.user_id, command.task_id)

    def command(self, task: tuple[int, UUID], fields: Wish) -> Command:
        user_id, task_id = self.users[task[0]], task[1]
        match fields:
            case "delete":
                return DeleteTask(user_id=user_id, task_id=task_id)
            case "restore":
                return RestoreTask(user_id=user_id, task_id=task_id)
            case "erase":
                return EraseTask(user_id=user_id, task_id=task_id, forced=True)
            case None | bool():
                return ToggleTask(user_id=user_id, task_id=task_id, completed=fields)
            case _:
                return UpdateTask(user_id=user_id, task_id=task_id, fields=fields)

    @rule(target=tasks, user=st.integers(0, len(USERS) - 1), fields=all_fields())
    def create(self, user: int, fields: Fields) -> tuple[int, UUID]:
        task_id = uuid7()
        self.run(self.do(CreateTask(user_id=self.users[user], task_id=task_id, fields=fields)))
        return user, task_id

    @rule(task=tasks, wanted=wishes)
    def change(self, task: tuple[int, UUID], wanted: Wish) -> None:
        self.run(self.do(self.command(task, wanted)))

    @rule(
        wanted=st.lists(
            st.tuples(tasks, wishes),
            min_size=2,
            max_size=8,
        )
    )
    def change_at_once(self, wanted: list[tuple[tuple[int, UUID], Wish]]) -> None:
        async def together() -> None:
            await asyncio.gather(*(self.do(self.command(task, fields)) for task, fields in wanted))

        self.run(together())

    @rule(user=st.integers(0, len(USERS) - 1), task=tasks, wanted=wishes)
    def erase_a_user(self, user: int, task: tuple[int, UUID], wanted: Wish) -> None:
        async def together() -> None:
            change = self.do(self.command((user, task[1]), wanted))
            await asyncio.gather(change, erase_all(self.pool, self.users[user]))

        self.run(together())

    @rule(damage=st.sampled_from(DAMAGES), user=st.integers(0, len(USERS) - 1))
    def damage_and_rebuild(self, damage: str, user: int) -> None:
        self.run(self._damage_and_rebuild(damage, self.users[user]))

    async def _damage_and_rebuild(self, damage: str, user: str) -> None:
        async with self.pool.acquire() as connection:
            posted = await connection.fetch("SELECT * FROM tasks WHERE user_id = $1 ORDER BY id", user)
            await connection.execute(damage, user)
            streams = [stream async for unit in work_units.one(connection, user) for stream in unit.streams]
            wrong = {difference.task_id for difference in (await verify(connection, streams)).mismatches}
            result = await rebuild(connection, streams)
            assert (result.mismatches, result.written + result.removed) == ([], len(wrong))
            assert await connection.fetch("SELECT * FROM tasks WHERE user_id = $1 ORDER BY id", user) == posted

    @invariant()
    def projection_is_the_fold_of_the_log(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        for user in self.users:
            folded: dict[UUID, Task | Erased] = {}
            async with self.pool.acquire() as connection:
                upto = (await log.head(connection, user)).seq
                entries = [entry async for entry in log.read(connection, user, upto=upto)]
                rows = await connection.fetch(
                    "SELECT *, data::text AS data FROM events WHERE user_id = $1 ORDER BY seq", user
                )
                posted = await connection.fetch(f"SELECT {COLUMNS} FROM tasks WHERE user_id = $1", user)
            for entry in entries:
                task = evolve_erased(folded.pop(entry.event.task_id, None), entry.event)
                if task is not None:
                    folded[entry.event.task_id] = task
            assert {row["id"]: Task(**row) for row in posted} == folded
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            assert [row["hash"] for row in rows] == independent.chain(rows)
            async with self.pool.acquire() as connection:
                assert (await verify(connection, [work_units.StreamSize(user, upto)])).mismatches == []


@pytest.mark.unmeasured
def test_the_projection_always_equals_the_fold_of_the_log(server: str, runner: asyncio.Runner) -> None:
    opened = AsyncExitStack()
    try:
        dsn = runner.run(opened.enter_async_context(new_database(server, FROM_TEMPLATE)))
        pool = runner.run(opened.enter_async_context(open_pool(dsn, sharded=SHARDED)))
        run_state_machine_as_test(
            lambda: Daybook(runner, pool),  # type: ignore[arg-type] # any factory does
            settings=settings(
                max_examples=40,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert runner.run(pool.fetchval("SELECT count(*) FROM events")) > 100
    finally:
        runner.run(opened.aclose())
