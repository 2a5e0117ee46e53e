"""Clients that sync now and then have the list, after any commands and with pages of any length."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from api.sync_tokens import sync_point, sync_token
from commands.commands import Command, CreateTask, DeleteTask, EraseTask, RestoreTask, ToggleTask, UpdateTask
from commands.decider import Refusal
from db.pool import Pool, open_pool
from queries.changes import fetch_changes, fetch_first_copy
from tests.arrange import erase_all, run
from tests.conftest import FROM_TEMPLATE, new_database
from tests.service import SHARDED

KINDS = ("update", "toggle", "delete", "restore", "erase")


class Copy:
    """A client's copy of a user's tasks."""

    def __init__(self) -> None:
        self.tasks: dict[str, Any] = {}
        self.token: str | None = None

    async def page(self, pool: Pool, user: str, limit: int) -> bool:
        """Take in a page, and say if there is more."""
        since = None if self.token is None else sync_point(self.token)
        if since is None or since.start is not None:
            page = await fetch_first_copy(pool, user, since, limit=limit)
        else:
            page = await fetch_changes(pool, user, since, limit=limit)
        assert page is not None
        for task in orjson.loads(b"[%b]" % b",".join(page.tasks)):
            assert task["version"] > self.tasks.get(task["id"], {"version": 0})["version"], "it never goes back"
            self.tasks[task["id"]] = task
        for gone in page.deleted:
            self.tasks.pop(str(gone.id), None)
        self.token = sync_token(page.next)
        return page.more


class Clients(RuleBasedStateMachine):
    """A user with several clients, which sync at different times and may stop in the middle."""

    tasks = Bundle[UUID]("tasks")

    def __init__(self, runner: asyncio.Runner, pool: Pool) -> None:
        super().__init__()
        self.runner, self.pool = runner, pool
        self.user = f"ann-{uuid4().hex}"
        self.copies = [Copy() for _ in range(3)]

    @rule(target=tasks)
    def create(self) -> UUID:
        task_id = uuid7()
        self._do(CreateTask(user_id=self.user, task_id=task_id, fields={"title": "x"}))
        return task_id

    @rule(task=tasks, kind=st.sampled_from(KINDS), title=st.sampled_from("xyz"))
    def change(self, task: UUID, kind: str, title: str) -> None:
        ids = {"user_id": self.user, "task_id": task}
        commands: dict[str, Command] = {
            "update": UpdateTask(**ids, fields={"title": title}),  # type: ignore[arg-type]
            "toggle": ToggleTask(**ids),  # type: ignore[arg-type]
            "delete": DeleteTask(**ids),  # type: ignore[arg-type]
            "restore": RestoreTask(**ids),  # type: ignore[arg-type]
            "erase": EraseTask(**ids, forced=title == "x"),  # type: ignore[arg-type]
        }
        self._do(commands[kind])

    @rule()
    def erase_all(self) -> None:
        self.runner.run(erase_all(self.pool, self.user))

    def _do(self, command: Command) -> None:
        with suppress(Refusal):
            self.runner.run(run(self.pool, command))

    @rule(client=st.integers(0, 2), limit=st.integers(1, 4))
    def take_a_page(self, client: int, limit: int) -> None:
        self.runner.run(self.copies[client].page(self.pool, self.user, limit))

    @rule(client=st.integers(0, 2), limit=st.integers(1, 4))
    def sync(self, client: int, limit: int) -> None:
        while self.runner.run(self.copies[client].page(self.pool, self.user, limit)):
            pass
        rows = self.runner.run(self.pool.fetch("SELECT document FROM tasks WHERE user_id = $1", self.user))
        there = [orjson.loads(row["document"]) for row in rows]
        assert self.copies[client].tasks == {task["id"]: task for task in there}

    def teardown(self) -> None:
        for client in range(3):
            self.sync(client, 3)


@pytest.mark.unmeasured
def test_each_clients_copy_is_the_list(server: str, runner: asyncio.Runner) -> None:
    opened = AsyncExitStack()
    try:
        dsn = runner.run(opened.enter_async_context(new_database(server, FROM_TEMPLATE)))
        pool = runner.run(opened.enter_async_context(open_pool(dsn, sharded=SHARDED)))
        run_state_machine_as_test(
            lambda: Clients(runner, pool),  # type: ignore[arg-type] # any factory does
            settings=settings(
                max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
        assert runner.run(pool.fetchval("SELECT count(*) FROM events")) > 100
    finally:
        runner.run(opened.aclose())
