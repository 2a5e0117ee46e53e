"""Allowed origins of pages (RFC 6454): web sites, apps with a scheme of their own, and patterns of names."""

import re
from collections.abc import Iterable

from pydantic import HttpUrl, TypeAdapter

EVERY = "*"

_APP = re.compile(r"([a-z][a-z0-9+.-]*)://([A-Za-z0-9._-]+(?::([0-9]{1,5}))?)/?", re.ASCII)
"""Origins of apps, such as `capacitor://localhost`, `chrome-extension://…`. They are compared verbatim, except for the
scheme, which is lower case.
"""
_PATTERN = re.compile(r"(https?)://([a-z0-9-]*)\*([a-z0-9-]*)\.([a-z0-9.-]+)((?::[0-9]{1,5})?)/?", re.ASCII)
_NO_PAGES = frozenset({"about", "blob", "data", "javascript", "ws", "wss"})
"""Schemes that no page's origin has."""
_LARGEST_PORT = 65535
_LABEL = "[a-z0-9_-]+"
"""Pattern for a `*`: a part of one label, without a dot."""

_HOW = (
    "must be origins such as https://app.example.com or capacitor://localhost, separated by commas; "
    "a * may stand in the first part of a name, as in https://preview-*.example.com"
)


def parse(text: str) -> str:
    """Return an origin as browsers send it, or a pattern of origins. Raises `ValueError`, with advice."""
    if text == EVERY:
        return text
    if text.lower() == "null":
        raise ValueError("must not be null, which files and sandboxed frames of any site send; serve the page by HTTP")
    scheme, colon, rest = text.partition("://")
    scheme = scheme.lower()
    if "*" in text:
        return _pattern(f"{scheme}{colon}{rest.lower()}")
    if scheme == "file":
        raise ValueError("must not be file://, since pages of files send null; serve the page by HTTP")
    if scheme not in ("http", "https"):
        app = _APP.fullmatch(f"{scheme}{colon}{rest}")
        if app is None or scheme in _NO_PAGES or int(app[3] or 0) > _LARGEST_PORT:
            raise ValueError(_HOW)
        return f"{app[1]}://{app[2]}"
    try:
        url = TypeAdapter(HttpUrl).validate_python(text)
    except ValueError:
        raise ValueError(_HOW) from None
    if (url.path or "/") != "/" or url.username or url.password or url.query is not None or url.fragment is not None:
        raise ValueError(_HOW)
    return of(url)


def of(url: HttpUrl) -> str:
    """Return the URL's origin as browsers send it: scheme and host, and the port unless it is the scheme's own."""
    return f"{url.scheme}://{url.host}{_port(url.scheme, url.port)}"


def _port(scheme: str, port: int | None) -> str:
    return "" if port in (None, {"http": 80, "https": 443}[scheme]) else f":{port}"


def _pattern(text: str) -> str:
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(_HOW)
    scheme, before, after, name, port = found.groups()
    labels = name.split(".")
    if len(labels) < 2:
        raise ValueError("must not let in names that anybody can have: after a * write a name of your own, example.com")
    if not all(labels) or labels[-1].isdigit() or int(port[1:] or 0) > _LARGEST_PORT:
        raise ValueError(_HOW)
    return f"{scheme}://{before}*{after}.{name}{_port(scheme, int(port[1:]) if port else None)}"


class Origins:
    """The set of origins that may call."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """Take origins and patterns as `parse` returns them."""
        allowed = frozenset(allowed)
        self._every = EVERY in allowed
        self._whole = frozenset(each for each in allowed if "*" not in each)
        patterns = [_LABEL.join(map(re.escape, each.split("*"))) for each in allowed - self._whole - {EVERY}]
        self._patterns = re.compile("|".join(patterns), re.ASCII) if patterns else None

    def __contains__(self, origin: str) -> bool:
        if self._every or origin in self._whole:
            return True
        return self._patterns is not None and self._patterns.fullmatch(origin) is not None
