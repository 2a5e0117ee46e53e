"""Snapshots for deciding commands: a task as its last event left it, with that event's hash."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from uuid import UUID

from db.batching import BatchLoader
from db.pool import Executor, Pool
from events.serialization import Row
from events.task import Snapshot, Task

# A row that no event of its task left, by version and time, counts as none: the command is then decided on the log.
LOAD = """
SELECT tasks.user_id, tasks.id, title, description, completed, created_at, updated_at, tasks.version, hash
FROM tasks, events
WHERE tasks.user_id = $1 AND tasks.id = $2
  AND events.user_id = $1 AND events.task_id = $2 AND events.version = tasks.version AND events.at = tasks.updated_at
"""


# Returns one row for each task that exists. OFFSET 0 forces one look-up per task: in small tables, a join over all
# partitions looks cheaper, but the plan stays when the tables have grown.
LOAD_MANY = """
SELECT found.* FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, id), LATERAL (
    SELECT tasks.user_id, tasks.id, title, description, completed, created_at, updated_at, tasks.version, hash
    FROM tasks, events
    WHERE tasks.user_id = wanted.user_id AND tasks.id = wanted.id
      AND events.user_id = wanted.user_id AND events.task_id = wanted.id
      AND events.version = tasks.version AND events.at = tasks.updated_at
    OFFSET 0
) AS found
"""


async def load_snapshot(database: Executor, user_id: str, task_id: UUID) -> Snapshot | None:
    """Read the task's row, which is never stale, since it is written with the task's last event.

    Return `None` if there is no row, or one that no event left so. On a pool, this goes through a batch loader.
    """
    if isinstance(database, Pool) and not database.sharded:
        return await database.companion(_loads).get((user_id, task_id))
    row = await database.fetchrow(LOAD, user_id, task_id)
    return None if row is None else _snapshot(row)


def _loads(pool: Pool) -> BatchLoader[tuple[str, UUID], Snapshot]:
    return BatchLoader(pool, _load_many, user_of=itemgetter(0))


async def _load_many(pool: Pool, wanted: Sequence[tuple[str, UUID]]) -> Mapping[tuple[str, UUID], Snapshot]:
    if len(wanted) == 1:
        rows = await pool.fetch(LOAD, *wanted[0])
    else:
        rows = await pool.fetch(LOAD_MANY, *zip(*wanted, strict=True))
    return {(row["user_id"], row["id"]): _snapshot(row) for row in rows}


def _snapshot(row: Row) -> Snapshot:
    return Snapshot(Task(*(row[name] for name in Task._fields)), row["hash"])
