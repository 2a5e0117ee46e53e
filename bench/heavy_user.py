"""A user with a long log and many long tasks, as the worst that one user can be for the others."""

from collections.abc import Sequence

import asyncpg

from bench.load import Author, load
from commands.commands import Command, CreateTask
from events.store.append import RecordedEvent

LONGEST = 5_000
"""Characters of a description."""


def long_texts(number: int = 20) -> Sequence[str]:
    """Descriptions of 5,000 characters of four bytes each, all different, `haystack` first in each."""
    return [f"haystack {each:03}".ljust(LONGEST, chr(0x1F600 + each)) for each in range(number)]


class HeavyUser(Author):
    """Creates `long_tasks` tasks with the longest descriptions first; then does what an `Author` does."""

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
    """Write a new user's `events` events, the first `long_tasks` of them creations of long tasks; the last event."""
    return await load(connection, HeavyUser(user_id, long_tasks=long_tasks, seed=seed), events)
