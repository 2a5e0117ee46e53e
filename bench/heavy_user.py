"""A user with a long log and many long tasks: the highest load on the others that one user can be."""

from collections.abc import Sequence

import asyncpg

from bench.load import Author, load
from commands.commands import Command, CreateTask
from events.store.append import RecordedEvent

LONGEST = 5_000
"""Largest length of a description, in characters."""


def long_texts(number: int = 20) -> Sequence[str]:
    """Return different texts of 5,000 characters, most of which take four bytes. Each begins with `haystack`."""
    return [f"haystack {each:03}".ljust(LONGEST, chr(0x1F600 + each)) for each in range(number)]


class HeavyUser(Author):
    """An `Author` who first creates `long_tasks` tasks with descriptions of the largest length."""

    def __init__(self, user_id: str, *, long_tasks: int, seed: int = 1) -> None:
        super().__init__(user_id, seed=seed)
        self._long_tasks = long_tasks
        self._texts = long_texts()

    def _command(self) -> Command:
        if not self._long_tasks:
            return super()._command()
        self._long_tasks -= 1
        text = self._texts[self._long_tasks % len(self._texts)]
        return CreateTask(
            user_id=self.user_id,
            task_id=self._uuid7(),
            fields={"title": f"Long {self._long_tasks}", "description": text, "completed": False},
        )


async def load_heavy_user(
    connection: asyncpg.Connection, user_id: str, *, events: int, long_tasks: int, seed: int = 1
) -> RecordedEvent:
    """Write a new heavy user's `events` events, the first `long_tasks` of which create long tasks. Return the last."""
    return await load(connection, HeavyUser(user_id, long_tasks=long_tasks, seed=seed), events)
