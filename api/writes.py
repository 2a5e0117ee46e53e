"""Requests for writes: the parts that all of them have, and their user's turn."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.dependencies import CurrentCaller, metadata
from api.preconditions import precondition
from api.problems import BadRequest
from api.request_body import RawBody
from api.user_turns import take_turn
from commands.commands import Command
from commands.handler import Outcome, handle
from commands.precondition import Precondition
from db import deadline
from events.store.event_store import EventStore
from events.task import Metadata


@dataclass(frozen=True, slots=True)
class _Write:
    """A request for a write, as all of them have it."""

    request: Request
    user: str
    actor: str
    store: EventStore
    metadata: Metadata
    precondition: Precondition

    async def execute(self, command: Command) -> Outcome:
        """Handle the command at its user's turn. The body has been read by then: a slow upload holds no turn."""
        await take_turn(self.request, self.user)
        return await handle(self.store, command, actor=self.actor, metadata=self.metadata)


async def _write(caller: CurrentCaller, body: RawBody) -> _Write:
    request = caller.request
    deadline.begin(request.state.pool.timeout)
    return _Write(request, caller.user, caller.actor, caller.store, metadata(request, body), precondition(request))


Write = Annotated[_Write, Depends(_write)]


def refuse_query(request: Request) -> None:
    """Raise `BadRequest` if there is a query, for a write that has none: `?dry_run=true` must not be left unread."""
    if request.query_params:
        raise BadRequest(hint="This takes no query: send it in the body.")
