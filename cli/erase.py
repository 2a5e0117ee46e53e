"""`daybook erase`: erase the content of a task or of a user, for operators."""

import sys
from uuid import UUID

import asyncpg
import typer

from commands.commands import EraseTask
from commands.decider import Refusal
from commands.erasure import UserErasure, erase_task
from commands.precondition import UNCONDITIONAL
from config.errors import CannotRun
from db.errors import UNAVAILABLE
from db.pool import open_pool
from events.serialization import UnknownEvent
from events.store.content import ErasureRefused
from events.store.event_store import EventStore
from events.store.in_doubt import InDoubt
from events.task import ImpossibleEvent, Metadata

_DAMAGED = (ErasureRefused, UnknownEvent, ImpossibleEvent)
"""Errors if an event isn't as it was written. Of a task, its events are folded before it is erased."""
_CUT_SHORT: tuple[type[Exception], ...] = (InDoubt, *UNAVAILABLE)


def confirm(user: str, task: UUID | None) -> None:
    """Ask whether it is really wanted. Raise `CannotRun` if there is nobody to ask, or the answer is no."""
    if not sys.stdin.isatty():
        raise CannotRun("Nothing was erased: nobody can be asked here. Give --yes if it is really wanted.")
    what = f"all content of {user!r}" if task is None else f"the content of task {task} of {user!r}"
    if not typer.confirm(f"Erase {what} for good? It can't be undone."):
        raise CannotRun("Nothing was erased.")


async def erase_content(dsn: str, user: str, task: UUID | None, *, reason: str, actor: str, sharded: bool) -> str:
    """Erase the content, and report it. A task needn't have been deleted.

    Raise `CannotRun` if it can't be, and the errors of connecting.
    """
    async with open_pool(dsn, size=2, sharded=sharded) as pool:
        store = EventStore(pool)
        try:
            if task is not None:
                command = EraseTask(user_id=user, task_id=task, reason=reason, forced=True)
                await erase_task(store, command, actor=actor, metadata=Metadata())
                return f"The content of task {task} is erased for good."
            erasure = UserErasure(
                store, user, reason=reason, precondition=UNCONDITIONAL, actor=actor, metadata=Metadata()
            )
            seq = (await erasure.handle()).seq
            unknown = seq is None and not (await store.head(user)).seq
        except Refusal as refusal:
            raise CannotRun(str(refusal)) from refusal
        except _CUT_SHORT as error:
            raise CannotRun(f"It wasn't finished: {error}. Run it again, and it goes on.") from error
        except _DAMAGED as error:
            raise CannotRun(f"It wasn't finished: {error}.") from error
        except asyncpg.UndefinedTableError:
            raise CannotRun("The database has no schema of Daybook's: run `daybook migrate` first.") from None
        except asyncpg.PostgresError as error:
            raise CannotRun(f"It wasn't finished: {error}") from error
    if unknown:
        return f"The log has no event of {user!r}, so there is nothing to erase: is the user's id spelled right?"
    if seq is None:
        return f"There is nothing of {user!r} left to erase."
    return f"All content of {user!r} is erased for good; event {seq} records it."
