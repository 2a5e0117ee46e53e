"""Preconditions of commands, and the entity tags that they name (docs/http-api.md, "Safe writes")."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias


class EntityTag(NamedTuple):
    """A name for a state by its last event: the number (a task's `version`, a list's `seq`) and hash.

    A database that is restored from a backup repeats numbers, but never hashes (docs/adr/0020).
    A client names the first bytes of the hash, or none of them if it goes by the number alone.
    """

    number: int
    hash: bytes = b""

    def names(self, current: "EntityTag") -> bool:
        """Say if this tag, which a client sent, names the current state."""
        return self.number == current.number and current.hash.startswith(self.hash)


Tags: TypeAlias = Set[EntityTag] | Literal["*"] | None
"""Tags that a client names; `"*"`: any; `None`: the client names none."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """A condition on the state before a command, so that no change is overwritten that the client hasn't seen.

    `match` is If-Match and `none_match` is If-None-Match (RFC 9110, sections 13.1.1 and 13.1.2). Their tags are the
    task's; for a creation, which targets the list, they are the list's.
    """

    match: Tags = None
    none_match: Tags = None

    def holds(self, current: EntityTag, *, exists: bool) -> bool:
        """Say if the condition holds for the current state. A deleted task is in the state of its deletion."""
        if self.match is not None and not _matches(self.match, current, exists=exists):
            return False
        return self.none_match is None or not _matches(self.none_match, current, exists=exists)

    def is_of_another_log(self, current: EntityTag) -> bool:
        """Say if `match` has the current number, but only with other hashes, as before a restore from a backup."""
        if self.match is None or self.match == "*":
            return False
        same = [tag for tag in self.match if tag.number == current.number]
        return bool(same) and not any(tag.names(current) for tag in same)


def _matches(tags: Set[EntityTag] | Literal["*"], current: EntityTag, *, exists: bool) -> bool:
    return exists if tags == "*" else any(tag.names(current) for tag in tags)


UNCONDITIONAL = Precondition()
