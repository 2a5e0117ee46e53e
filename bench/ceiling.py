"""The service without its database: the upper limit that FastAPI and api/ set for its throughput.

Route, authentication, validation and response are the service's own, but no command is carried out.
`python -m bench.ceiling serve …` takes the options of `daybook serve`, and has one worker.
"""

from datetime import UTC, datetime

from api.routers import tasks
from cli.__main__ import run
from commands.commands import Command, CreateTask
from commands.handler import Outcome
from db.pool import Pool
from events.task import Metadata, Task


async def _nothing(pool: Pool, command: Command, *, actor: str, metadata: Metadata) -> Outcome:  # noqa: ARG001 - as handle
    assert isinstance(command, CreateTask)  # noqa: S101 - only creations are measured
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
