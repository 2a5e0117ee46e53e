"""The request that is arriving on a connection: how much of it there is, and whether it may be so large.

Invariants: counts are never too small. They may include earlier requests, if the present one began in the same piece of
input, and that is why a head is measured by itself before it is refused. A body counts as read only if it came as its
head announced it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from api.problems import BadRequest, Problem, RequestHeaderFieldsTooLarge, invalid_token

_LARGEST_HEAD = 64 * 1024
"""Largest number of bytes of request line and headers."""
_LARGEST = 4 * 1024 * 1024
"""Largest number of bytes of a whole request. `api.request_body` has a smaller limit; this one is for unread bodies."""
_SINGLE = frozenset({b"authorization", b"content-type", b"host", b"origin"})
"""Fields with a single value (RFC 9110, section 5.3). Of two values, two parties could each believe another."""

Header: TypeAlias = tuple[bytes, bytes]


class IncomingRequest:
    """The present request of a connection, counted piece by piece; a piece is the result of one read of the socket."""

    __slots__ = ("arriving", "began_in_piece", "body", "chunked", "head", "piece", "received")

    def __init__(self) -> None:
        self.arriving = True
        """True until the request is complete; also before the first one."""
        self.head: bytearray | None = bytearray()
        """Bytes so far of a head that isn't complete, else None. Most heads arrive whole and are never copied here."""
        self.body = 0
        """Bytes of the body so far."""
        self.chunked = False
        """True if a chunk of the body was read, even if only the last, empty one."""
        self.received = 0
        """Bytes of the request, and of earlier requests in the piece in which it began."""
        self.piece = 0
        """Bytes of the present piece."""
        self.began_in_piece = False
        """True if the request began in the present piece."""

    def count(self, piece: bytes) -> None:
        """Count another piece of input."""
        self.piece = len(piece)
        self.received += self.piece
        self.began_in_piece = False

    def begin(self) -> None:
        """Begin another request, in the present piece."""
        self.began_in_piece = self.arriving = True
        self.received = self.piece
        self.head = bytearray()
        self.body = 0
        self.chunked = False

    @contextmanager
    def begun_earlier(self) -> Iterator[None]:
        """Have a request that begins in the block count as if it had begun where the present one did."""
        piece, self.piece = self.piece, self.received
        yield
        self.piece = piece

    @property
    def too_large(self) -> bool:
        """Say whether more has arrived than a whole request may have."""
        return self.received > _LARGEST

    def head_refusal(self) -> Problem | None:
        """Return the problem of an incomplete head that is too large already."""
        if self.head is None or len(self.head) <= _LARGEST_HEAD:
            return None
        return _too_large(bytes(self.head.rpartition(b"\n")[2]))

    def headers_refusal(self, target: bytes, headers: Sequence[Header]) -> Problem | None:
        """Return the problem of a complete head: a field that was sent twice, or too many bytes."""
        names = [name for name, _ in headers]
        if len(set(names)) < len(names) and (twice := _SINGLE.intersection(_repeated(names))):
            name = min(twice).decode().title()
            return BadRequest(hint=f"{name} was sent more than once: send it once.")
        if self.received > _LARGEST_HEAD:  # rare, and the count includes some of the body
            lines = [b"GET  HTTP/1.1" + target, *(b"%b: %b" % header for header in headers)]
            if sum(len(line) + 2 for line in lines) > _LARGEST_HEAD:
                return _too_large(max(lines, key=len))
        return None

    def has_body(self, headers: Iterable[Header]) -> bool:
        """Say whether the whole body that the headers announce has been read, as the parser should ensure."""
        for name, value in headers:
            if name == b"content-length":
                return self.body == _length(value)
            if name == b"transfer-encoding":
                return self.chunked
        return True


def announces_too_much(headers: Iterable[Header]) -> bool:
    """Say whether a Content-Length, which the parser has checked, is larger than a whole request may be."""
    return _length(next((value for name, value in headers if name == b"content-length"), b"0")) > _LARGEST


def _length(value: bytes) -> int:
    """Read a Content-Length that the parser has checked: there is no limit for the zeros before the number."""
    return int(value.lstrip(b"0") or b"0")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Iterable[Header]) -> bytes:
    """Write a head anew, without its `Upgrade`."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def _repeated(names: Iterable[bytes]) -> list[bytes]:
    return [name for name, count in Counter(names).items() if count > 1]


def _too_large(line: bytes) -> Problem:
    """Make the problem for `line`, the head's line without an end yet, else its longest: 401 for a token, else 431."""
    if line.partition(b":")[0].lower() == b"authorization":
        return invalid_token("The token is too long.")
    return RequestHeaderFieldsTooLarge(hint=f"Request line and headers must have at most {_LARGEST_HEAD:,} bytes.")
