"""The service with the database left out: the route, the authentication, the validation and the answer are the very
same, but commands aren't carried out. How fast it is, FastAPI and api/ allow at most.

python -m bench.ceiling serve …: as `daybook serve`, with one worker.
"""

from datetime import UTC, datetime

from api.routers import tasks
from cli.__main__ import run
from commands.commands import Command, CreateTask
from commands.handler import Outcome
from db.pool import Pool
from events.task import Metadata, Task


async def _nothing(pool: Pool, command: Command, *, actor: str, metadata: Metadata) -> Outcome:  # noqa: ARG001 - as handle
    assert isinstance(command, CreateTask)  # noqa: S101 - what is measured
    now = datetime.now(UTC)
    return Outcome(
        Task(
            id=command.task_id,
            user_id=command.user_id,
            title=command.fields["title"],
            description=command.fields.get("description"),
            completed=command.fields.get("completed", False),
            priority=None,
            due_date=None,
            tags=[],
            created_at=now,
            updated_at=now,
            completed_at=None,
            version=1,
        ),
        bytes(32),
        1,
    )


if __name__ == "__main__":
    vars(tasks)["handle"] = _nothing
    run()
