"""`daybook verify --export`: check an export, perhaps against a head that was kept."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

import orjson

from cli.output import shown
from config.errors import CannotRun
from events.export.formats import MARK
from events.export.verification import BadHead, NothingToSay, Report, read_head, verify_export
from events.hash_chain import Head
from events.integrity.mismatch import Mismatch
from events.serialization import UnknownEvent
from events.signed_head import BadSignature, Signed, check_signature

FROM_STDIN = "-"


class CannotVerify(CannotRun):
    """There is nothing that could be said of the export."""


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """The report on an export, and the ids of the keys that signed its heads, if that was checked."""

    report: Report
    signed_by: tuple[str, ...]


def verify_file(export: str, *, head: str | None, after: str | None, keys: str | None) -> VerifiedExport:
    """Verify the file `export` (`-`: stdin). The heads must be signed by one of `keys`, if it is given.

    Raises `CannotVerify`.
    """
    published = None if keys is None else _read(keys)
    kept, begun = (None if path is None else _head(path, published) for path in (head, after))
    name = "stdin" if export == FROM_STDIN else export
    try:
        with _opened(export) as file:
            report = verify_export(file, kept and kept.head, after=begun and begun.head)
    except OSError as error:
        raise CannotVerify(f"{name} can't be read: {error.strerror or error}") from error
    except NothingToSay as error:
        raise CannotVerify(shown(f"{name}: {error}")) from error
    except UnknownEvent as error:
        told = f"{name}: {shown(str(error))}.\nWhere a newer release made the export, verify it with that one."
        raise CannotVerify(told) from error
    for path, each in ((head, kept), (after, begun)):
        if each and each.signed and report.user_id not in (None, each.signed.user_id):
            raise CannotVerify(f"{path}: this head is {shown(each.signed.user_id)}'s, and {name} is another user's log")
    if begun:
        _check_beginning(name, report, begun.head)
    signed_by = dict.fromkeys(each.signed.key_id for each in (kept, begun) if each and each.signed)
    return VerifiedExport(report, tuple(signed_by))


def _check_beginning(name: str, report: Report, after: Head) -> None:
    """Check that the export's first event isn't one that the head `after` covers. Raises `CannotVerify`."""
    found = report.mismatch
    if found and not report.events and found.kind == "added" and found.seq is not None and found.seq <= after.seq:
        raise CannotVerify(
            f"{name} begins at event {found.seq}, and the head is event {after.seq}: export it with after={after.seq}"
        )


class _Kept(NamedTuple):
    """A head that was kept, and its signature's claims, if it was checked."""

    head: Head
    signed: Signed | None


_LARGEST_HEAD = 64 * 1024
"""Largest size of a head's file, in bytes."""


def _head(path: str, keys: bytes | None) -> _Kept:
    text = _read(path)
    try:
        head = read_head(text)
        if keys is None:
            return _Kept(head, None)
        return _Kept(head, check_signature(_signed(text), head, keys))
    except (BadHead, BadSignature) as error:
        raise CannotVerify(f"{path}: {error}") from error


def _signed(text: bytes) -> str:
    signed: object = orjson.loads(text).get("signed")
    if not isinstance(signed, str):
        raise BadSignature("the head isn't signed")
    return signed


def _read(path: str) -> bytes:
    """Read a small file, without a byte order mark. Raises `CannotVerify`."""
    try:
        with Path(path).open("rb") as file:
            return file.read(_LARGEST_HEAD).removeprefix(MARK)
    except OSError as error:
        raise CannotVerify(f"{path} can't be read: {error.strerror or error}") from error


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open the file to be read more than once: a pipe is copied to a temporary file first."""
    if path == FROM_STDIN and sys.stdin is None:
        raise CannotVerify("stdin is closed")
    with nullcontext(sys.stdin.buffer) if path == FROM_STDIN else Path(path).open("rb") as file:
        if path != FROM_STDIN and file.seekable():
            yield file
            return
        with TemporaryFile() as spool:
            copyfileobj(file, spool)
            yield spool


def for_machines(verified: VerifiedExport) -> str:
    """Return the report as a JSON object. After a mismatch, the other figures are those of the events before it."""
    report = verified.report
    return orjson.dumps({"clean": report.mismatch is None, **asdict(report), "signed_by": verified.signed_by}).decode()


def for_people(verified: VerifiedExport) -> str:
    """Return the report as one to four lines."""
    signed = [f"The head's signature holds, by the key {shown(key)}." for key in verified.signed_by]
    return "\n".join((_reported(verified.report), *signed))


def _reported(report: Report) -> str:
    found = report.mismatch
    if not report.events:
        return _said(found) if found else _none(report.head or 0)
    held = f"Event {report.first}" if report.events == 1 else f"Events {report.first} to {report.last}"
    whose = f"of {shown(report.user_id or '')}"
    if found:
        return f"{_said(found)}\n{held} {whose} {'fits' if report.events == 1 else 'fit together'}."
    fine = f"{held} {whose}: nothing was changed, removed, added or reordered."
    return f"{fine}\nThe hash of event {report.last} is {report.hash}.\n{_against(report)}"


def _said(found: Mismatch) -> str:
    if found.line is None:
        return f"{found.message[0].upper()}{found.message[1:]}."
    whole = " Only a whole export can be verified, not one that was filtered." if found.kind == "removed" else ""
    return f"Line {found.line}: {found.message}.{whole}"


def _none(head: int) -> str:
    behind = f" after event {head}" if head else ""
    return f"There are no events{behind}, as the head that was kept says."


def _against(report: Report) -> str:
    """Say how much more the head proves, or how much stays open without one."""
    head, first = report.head, report.first or 0
    if head is None and first > 1:
        return (
            f"They go on from event {first - 1}, the head that was kept. That the last ones weren't cut off, only a "
            "later head can show (--head)."
        )
    if head is None:
        return "That they weren't all made anew, or the last ones cut off, only a head can show that was kept (--head)."
    if head < first:
        return f"Event {head}, the head that was kept, is the one before them." if head else _NONE_THEN
    return f"Event {head} is the head that was kept: up to it, the log is as it was then."


_NONE_THEN = "When the head was kept, there were no events."
