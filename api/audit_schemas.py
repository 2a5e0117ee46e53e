"""Models of the audit trail: events, heads, and their readers (docs/http-api.md, "History")."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from api.schemas import TIMESTAMP, Changes, Task, Timestamp

EventType = Literal[
    "TaskCreated", "TaskUpdated", "TaskToggled", "TaskDeleted", "TaskRestored", "TaskErased", "UserErased"
]
_HASH = "^[0-9a-f]{64}$"


class Client(BaseModel):
    """The client that a request came from."""

    address: str | None
    agent: str | None = Field(description="its `User-Agent`")


class AuditEvent(BaseModel):
    """One thing that happened."""

    seq: int = Field(ge=1, description="its number in the user's log, which has no gaps")
    id: UUID
    type: EventType
    task_id: UUID = Field(description="the nil UUID of a `UserErased`")
    version: int = Field(ge=1, description="its number in the task's history; the version it made")
    at: Timestamp
    actor: str = Field(description="who did it: the user, or somebody for them")
    request_id: str | None = Field(description="as in the answer's `X-Request-ID` then")
    client: Client
    changes: Changes
    reason: str | None = Field(default=None, description="why something was erased; only of `…Erased` events")
    hash: str = Field(description="the chain up to and with this event", json_schema_extra={"pattern": _HASH})
    erased: Literal[True] = Field(
        default=True, description="that its content was erased; absent of events that have theirs"
    )


class AuditorAccess(BaseModel):
    """A read of a user's log or past by an auditor."""

    id: UUID
    at: Timestamp
    auditor: str = Field(description="the user of the auditor's token")
    actor: str = Field(description="who acted with it: the auditor, or somebody for them")
    path: str = Field(description="the path that was read, without its query")
    request_id: str = Field(description="as in the answer's `X-Request-ID` then")


class FeedEvent(AuditEvent):
    """An event of a feed: as in the audit trail, with the task after it."""

    task: Task | None = Field(description="as the event left it; null if it is deleted, or was erased")


class ExportedEvent(AuditEvent):
    """A line of an export: an event with all that it takes to compute its hash again."""

    user_id: str
    idempotency_key: str | None
    fingerprint: str | None = Field(description="of the request with that key: SHA-256 of what it asked for")
    salt: str | None = Field(json_schema_extra={"pattern": "^[0-9a-f]{32}$"})
    data: dict[str, Any] | None = Field(description="as it is stored, which is what was hashed; null if erased")
    personal: str = Field(
        default="",
        description="the inner digest, which was hashed for the content; absent of events that have theirs",
        json_schema_extra={"pattern": _HASH},
    )


class Head(BaseModel):
    """The end of a user's log. Keep it: with it, nobody can rewrite what was before, and go unnoticed."""

    seq: int = Field(ge=0, description="how many events there are")
    hash: str = Field(
        description="of the last one; empty where there is none", json_schema_extra={"pattern": f"^$|{_HASH}"}
    )
    at: datetime | None = Field(json_schema_extra={"pattern": TIMESTAMP})
    signed: str = Field(
        default="",
        description="the same as a JWS by a key of /.well-known/jwks.json, if the service signs heads",
        json_schema_extra={"pattern": r"^([\w-]+\.){2}[\w-]+$"},
    )


class Jwk(BaseModel):
    """A public key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str = Field(description="its thumbprint (RFC 7638)")
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class JwkSet(BaseModel):
    """The public keys of a service (RFC 7517)."""

    keys: list[Jwk]
