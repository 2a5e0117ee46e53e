"""The service without its database: the upper limit that FastAPI and api/ set for its throughput.

Route, authentication, validation and response are the service's own, but no command is carried out.
`python -m bench.ceiling serve …` takes the options of `daybook serve`, and has one worker.
"""

from datetime import UTC, datetime

from api import writes
from cli.__main__ import run
from commands.commands import Command, CreateTask
from commands.handler import Outcome, handle
from events.store.event_store import EventStore
from events.task import Metadata, Task


async def _nothing(store: EventStore, command: Command, *, actor: str, metadata: Metadata) -> Outcome:  # noqa: ARG001 - as handle
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
    assert vars(writes)["handle"] is handle  # noqa: S101 - else this would measure the whole service
    vars(writes)["handle"] = _nothing
    run()
