"""Readers of a user's log: the user, and auditors, whose reads are on record (docs/http-api.md, "Auditors")."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from uuid_utils.compat import uuid7

from api.auth.authentication import Credentials, UserId, authenticate
from api.dependencies import Caller
from api.problems import not_for_auditors
from events.store.accesses import Access, record_access


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of a user's log, by their token: the user, or an auditor.

    Invariant: an auditor gets at the sources of an answer only by `past`, which puts the read on record.
    """

    _caller: Caller

    @property
    def request(self) -> Request:
        """Return the request that is being answered."""
        return self._caller.request

    @property
    def requester(self) -> str:
        """Return the user for the turns and limits of the request."""
        return self._caller.requester

    def present(self) -> Caller:
        """Return the caller, for a read of the present, which is its user's alone. Raises `Forbidden`."""
        if self._audits:
            raise not_for_auditors()
        return self._caller

    async def past(self) -> Caller:
        """Return the caller, for a read of the log or the past. If it is an auditor's, put it on record first.

        Call this after all that can refuse the request without a look at the user's data. Raise as `record_access`
        does: then the read must not be answered.
        """
        if self._audits:
            await record_access(self._caller.pool, _access(self._caller))
        return self._caller

    @property
    def _audits(self) -> bool:
        return self._caller.requester != self._caller.user


def _access(caller: Caller) -> Access:
    scope = caller.request.scope
    return Access(
        user_id=caller.user,
        id=uuid7(),
        at=datetime.now(UTC),
        auditor=caller.requester,
        actor=caller.actor,
        path=scope["path"].removeprefix(scope.get("root_path", "")),
        request_id=caller.request.state.request_id,
    )


async def _reader(request: Request, user_id: UserId, credentials: Credentials) -> Reader:
    """Authenticate the request. Raise as `api.auth.authentication.authenticate` does."""
    requester, actor, *_ = await authenticate(request, user_id, credentials, for_auditors=True)
    state = request.state
    store, pool = state.store, state.pool
    if requester != user_id:
        store, pool = store.read_by(requester), pool.read_by(requester)
    return Reader(Caller(request, user_id, requester, actor, store, pool.of(user_id), state.scans))


CurrentReader = Annotated[Reader, Depends(_reader)]
