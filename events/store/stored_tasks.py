"""Rows of `tasks` by key: a task's document, with the hash of the event that left it so."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias
from uuid import UUID

from db.pool import Executor
from events.projection import task_of
from events.task import Task

TaskKey: TypeAlias = tuple[str, UUID]
"""User id and task id."""


class StoredTask(NamedTuple):
    """A task's row: its version and its document, and the hash of the event of this version and time.

    `hash` is `None` if no event left the row so; only a rebuild can repair it.
    """

    version: int
    hash: bytes | None
    document: bytes

    def task(self, user_id: str, task_id: UUID) -> Task | None:
        """Return the task of this key; `None` if no event left the row so, or if the document isn't this task's."""
        try:
            task = task_of(self.document)
        except ValueError:
            return None
        key = (task.user_id, task.id, task.version)
        return task if self.hash is not None and key == (user_id, task_id, self.version) else None


STORED = """
SELECT version, (
    SELECT hash FROM events
    WHERE user_id = $1 AND task_id = $2 AND events.version = tasks.version AND events.at = tasks.updated_at
) AS hash, textsend(document) AS document
FROM tasks WHERE user_id = $1 AND id = $2
"""

# Returns one row for each task that exists. OFFSET 0 forces one look-up per task: in small tables, a join over all
# partitions looks cheaper, but the plan stays when the tables have grown.
STORED_MANY = """
SELECT wanted.user_id, wanted.id, found.* FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, id), LATERAL (
    SELECT version, (
        SELECT hash FROM events
        WHERE events.user_id = wanted.user_id AND events.task_id = wanted.id
          AND events.version = tasks.version AND events.at = tasks.updated_at
    ) AS hash, textsend(document) AS document
    FROM tasks WHERE tasks.user_id = wanted.user_id AND tasks.id = wanted.id OFFSET 0
) AS found
"""


STORED_OF_USER = """
SELECT id, version, (
    SELECT hash FROM events
    WHERE user_id = $1 AND task_id = tasks.id AND events.version = tasks.version AND events.at = tasks.updated_at
) AS hash, textsend(document) AS document
FROM tasks WHERE user_id = $1 AND id = ANY ($2)
"""


async def stored_of_user(database: Executor, user_id: str, ids: Sequence[UUID]) -> Mapping[UUID, StoredTask]:
    """Read the rows of a user's tasks, as `stored` does."""
    rows = await database.fetch(STORED_OF_USER, user_id, ids)
    return {id_: StoredTask(*columns) for id_, *columns in rows}


async def stored(database: Executor, keys: Sequence[TaskKey]) -> Mapping[TaskKey, StoredTask]:
    """Read the tasks' rows, which are never stale, since they are written with their tasks' last events."""
    if len(keys) == 1:
        row = await database.fetchrow(STORED, *keys[0])
        return {} if row is None else {keys[0]: StoredTask(*row)}
    rows = await database.fetch(STORED_MANY, *zip(*keys, strict=True))
    return {(user_id, id_): StoredTask(*columns) for user_id, id_, *columns in rows}
