"""Postgres addresses as providers hand them out, turned into arguments for asyncpg."""

import os
import pwd
import re
import ssl
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import structlog

from config.logs import once
from db.errors import BadDsn
from db.poolers import known_direct, recognised
from db.tls import VERIFYING, wanted

_log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
"""Seconds that connecting may take, unless `connect_timeout` is given. A suspended Neon database wakes in less."""

PREPARED = 100
"""Largest number of prepared statements on a connection, if it may keep any. The service has fewer."""

_QUOTES = ("'", '"', "`", "\u2018", "\u2019", "\u201c", "\u201d")
"""Quotation marks, including those that text programs make of them."""

_ROUTES = re.compile(r"(endpoint|project)=\S*")
"""Neon's `options` that name the database. Its proxy learns the name from the TLS handshake too."""

_LARGEST = 65535
"""Largest port number; more than enough for a number of seconds."""
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]{1,5}")
_PASTED = (
    (re.compile(r"psql\s"), "it is a command of psql's: write only the address, postgresql://…"),
    (re.compile(r"\w+\s*=\s*\W?postgres"), "it begins with a name and =: write only the address, postgresql://…"),
    (
        re.compile(r"jdbc:"),
        "it must start with postgresql://: leave out jdbc:, and write user:password@ before the host",
    ),
    (
        re.compile(r"prisma\+?\w*:"),
        "it must start with postgresql://: take the direct address, not Prisma Accelerate's",
    ),
    (re.compile(r".*\[\w+-PASSWORD\]", re.IGNORECASE), "the password still has to be put in, for [YOUR-PASSWORD]"),
    (re.compile(r"(host|dbname|user)\s*="), "it must be a URL: postgresql://user:password@host:5432/database"),
)
"""Texts that are often pasted instead of an address, each with the advice to give."""

_UNDERSTOOD = frozenset({
    "host", "port", "user", "password", "dbname", "application_name", "connect_timeout", "options",
    "target_session_attrs", "pgbouncer", "sslmode", "ssl", "sslnegotiation", "sslrootcert", "sslcert", "sslkey",
    "ssl_min_protocol_version",
})  # fmt: skip
_POOLED = re.compile(r"(prepared_)?statement_cache_size=0")
"""Options that tell asyncpg and SQLAlchemy of a pooler in transaction mode."""
_HARMLESS = re.compile(
    r"(schema|currentSchema|search_path)=public|gssencmode=(disable|prefer)|sslcertmode=(disable|allow)"
    r"|ssl(compression|sni|keylogfile)=.*",
    re.IGNORECASE,
)
"""Options that may be dropped, though `_REFUSED` has their names: they make nothing safer, and move no table."""
_REFUSED = {
    r"service(file)?|passfile": "Daybook reads no file of libpq's: write into the address what it says",
    r"hostaddr": "write the address as the host",
    r"schema|currentSchema|search_path": (
        "Daybook's tables lie where the login's search_path begins: ALTER ROLE … SET search_path = …"
    ),
    r"gssencmode": "use TLS (sslmode) instead of GSSAPI",
    r"require_?(auth|peer)": "let pg_hba.conf say which methods are taken, and a socket's folder whom to trust",
    r"sslcrl(dir)?": "no revocation list is read: name an authority that ends its certificates soon as sslrootcert",
    r"sslpassword|sslidentity": "name two files as sslcert and sslkey, with no password (openssl pkcs12, pkey)",
    r".*(ssl|tls|verify).*": (
        f"of TLS, {', '.join(sorted(each for each in _UNDERSTOOD if 'ssl' in each))} are understood"
    ),
}
"""Patterns of options that must not be ignored, as they decide whom to trust or where the tables lie; with advice."""

_BINDING = "channel_binding"
"""An option that asyncpg lacks. It may be dropped if the server's certificate is verified instead."""


def connect_arguments(dsn: str) -> dict[str, Any]:
    """Return the arguments for `asyncpg.connect` and `create_pool` from a URL as Neon, Heroku or libpq write it.

    Accepts `postgresql://`, `postgres://` and a driver suffix (`postgresql+asyncpg://`). The server's certificate is
    verified, unless `sslmode` is `disable`, `allow`, `prefer` or `no-verify`, or is missing for a private host.
    Options that would decide whom to trust or where the tables lie, and can't be honoured, are refused. All others that
    aren't understood are dropped, which is logged once.

    `statement_cache_size` is 0 behind a pooler: `pgbouncer=true`, `statement_cache_size=0`, or an address typical of
    poolers. It is more if there is certainly none (`pgbouncer=false`), and left out if nothing is known.

    The address alone decides: asyncpg has nothing left to look up in variables (PGUSER, …) or in files of the home
    folder. The default user is the account that this process runs as; the default database has the user's name; the
    host is localhost and the port 5432; by default no password is sent. Raises `BadDsn`.
    """
    url, written = _split(dsn)
    query = _understood(written)
    if "options" in query and not _ROUTES.fullmatch(query["options"]):
        raise BadDsn("of options, only endpoint=… is understood: set the rest with ALTER ROLE … SET …")
    host = query.get("host") or _host(url) or "localhost"
    if "," in host:
        raise BadDsn("only one host can be given; put a proxy or a name that moves in front of several")
    user = query.get("user") or unquote(url.username or "") or account()
    if not user:
        raise BadDsn("it names no user, and the account that Daybook runs as has no name: postgresql://user:password@…")
    tls = wanted(host, query)
    if written.get(_BINDING, "prefer") not in ("prefer", "disable") and not _verified(tls):
        raise BadDsn(f"{_BINDING} goes with sslmode=require, verify-ca or verify-full, which verify the server")
    arguments: dict[str, Any] = {
        "host": host,
        "port": _number(query, "port") or url.port or 5432,
        "user": user,
        "password": query.get("password") or unquote(url.password or ""),
        "database": query.get("dbname") or unquote(url.path.removeprefix("/")) or user,
        "timeout": float(_number(query, "connect_timeout") or CONNECT_SECONDS),
        "ssl": tls,
        "direct_tls": query.get("sslnegotiation") == "direct" and isinstance(tls, ssl.SSLContext),
        "target_session_attrs": _session(query),
        "krbsrvname": "postgres",
        "gsslib": "gssapi",
        "server_settings": {"application_name": query.get("application_name") or "daybook"},
    }
    prepared = _prepared(host, arguments["port"], query)
    return arguments if prepared is None else {**arguments, "statement_cache_size": prepared}


def _verified(tls: object) -> bool:
    return isinstance(tls, ssl.SSLContext) and tls.verify_mode == ssl.CERT_REQUIRED


def account() -> str | None:
    """Return the system's name of the account that this process runs as; None if it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _understood(written: Mapping[str, str]) -> dict[str, str]:
    """Return the options that we understand; log the names of those dropped. Raises `BadDsn` for `_REFUSED` ones."""
    kept: dict[str, str] = {}
    dropped = []
    for name, value in written.items():
        if name in _UNDERSTOOD:
            kept[name] = value
        elif name == "database":
            kept["dbname"] = value
        elif _POOLED.fullmatch(f"{name}={value}"):
            kept.setdefault("pgbouncer", "true")
        else:
            _check_droppable(name, value)
            dropped.append(name)
    if dropped:
        once(_log, "info", "database options dropped", options=tuple(sorted(dropped)))
    return kept


def _check_droppable(name: str, value: str) -> None:
    if name == _BINDING or _HARMLESS.fullmatch(f"{name}={value}"):
        return
    for pattern, advice in _REFUSED.items():
        if re.fullmatch(pattern, name, re.IGNORECASE):
            raise BadDsn(f"{name} can't be used here: {advice}")
    if value in VERIFYING or get_close_matches(name.lower(), ("sslmode", _BINDING), cutoff=0.8):
        raise BadDsn(f"{name} is no option: sslmode and {_BINDING} say how the connection is secured")


def _prepared(host: str, port: int, query: Mapping[str, str]) -> int | None:
    """Return the number of statements that a connection may keep prepared; None if it is unknown."""
    said = query.get("pgbouncer")
    if said is not None:
        if said not in ("true", "false"):
            raise BadDsn("pgbouncer is true or false")
        return 0 if said == "true" else PREPARED
    if by := recognised(host, port):
        once(_log, "info", "pooler recognised: no statement is prepared (?pgbouncer=false if there is none)", by=by)
        return 0
    return PREPARED if known_direct(host) else None


def _session(query: Mapping[str, str]) -> str:
    said = query.get("target_session_attrs", "any")
    if said not in ("any", "primary", "read-write"):
        raise BadDsn(f"target_session_attrs is any, primary or read-write, not {said}: Daybook writes")
    return said


def _split(dsn: str) -> tuple[SplitResult, dict[str, str]]:
    dsn = dsn.strip()
    for pasted, says in _PASTED:
        if pasted.match(dsn):
            raise BadDsn(says)
    if dsn.startswith(_QUOTES) or dsn.endswith(_QUOTES):
        raise BadDsn("it has quotes around it, which belong to it where docker --env-file reads it: write it without")
    try:
        if _CONTROL.search(dsn) or "\0" in unquote(dsn, errors="strict"):
            raise BadDsn("it holds a control character: write a tab or a line end of a password as %09 or %0A")
    except UnicodeDecodeError:
        raise BadDsn("what it has as %XX must be UTF-8: é is %C3%A9") from None
    try:
        url = urlsplit(dsn)
        _ = url.port
        if "@" in url.path + url.query:
            raise ValueError
        query = dict(_option(each) for each in url.query.split("&") if each)
    except ValueError:
        raise BadDsn(
            "it is no URL of one host: postgresql://user:password@host:5432/database, with odd characters of the"
            " password as %XX"
        ) from None
    if url.scheme.partition("+")[0] not in ("postgresql", "postgres") or "://" not in dsn:
        raise BadDsn("it must start with postgresql://")
    if url.fragment:
        raise BadDsn("it has a #: in a password, write it as %23")
    return url, query


def _option(text: str) -> tuple[str, str]:
    """Split an option as libpq does: a plus stays a plus, though forms make it a space."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    return unquote(name), unquote(value)


def _host(url: SplitResult) -> str:
    """Return the host, or the folder of sockets with its capitals, which `url.hostname` doesn't keep."""
    host = unquote(url.netloc.rpartition("@")[2].partition(":")[0])
    return host if host.startswith("/") else unquote(url.hostname or "")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not _DIGITS.fullmatch(text) or int(text) > _LARGEST:
        raise BadDsn(f"{name} is no number up to {_LARGEST}")
    return int(text)
