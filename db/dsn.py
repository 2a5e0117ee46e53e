"""Postgres addresses as they are handed out, made fit for asyncpg."""

import os
import pwd
import re
import ssl
from collections.abc import Hashable
from functools import cache
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import structlog

from config.hosts import private
from db.poolers import known_direct, recognised

_log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
"""How long connecting may take, unless `connect_timeout` says otherwise: a suspended Neon database wakes in less."""

PREPARED = 100
"""How many statements a connection keeps prepared, where it keeps any; there are fewer."""

_TLS_OPTIONS = frozenset({"sslrootcert", "sslcert", "sslkey"})
_KNOWN = frozenset({
    "sslmode", "ssl", "sslnegotiation", "host", "port", "user", "password", "dbname", "application_name", "pgbouncer",
    "connect_timeout", "options", "target_session_attrs",
}) | _TLS_OPTIONS  # fmt: skip
# What others understand, and asyncpg would send on as server settings, which Postgres refuses.
_DROPPED = frozenset({
    "channel_binding", "pool_timeout", "connection_limit", "schema", "gssencmode",
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
})  # fmt: skip
_ROUTES = re.compile(r"(endpoint|project)=\S*")
"""What Neon's `options` name: the database, which its proxy learns from the TLS handshake too."""

_LARGEST = 65535
"""Of a port; more than enough for a number of seconds."""
_SECURE = ("require", "verify-ca", "verify-full")
_MODES = ("disable", "allow", "prefer", *_SECURE)


class BadDsn(ValueError):
    """A database address that can't be used. The message never shows the password."""


def connect_arguments(dsn: str) -> dict[str, Any]:
    """Arguments for `asyncpg.connect` and `create_pool` from a URL as Neon, Heroku or libpq write it.

    Accepts `postgresql://`, `postgres://` and a driver suffix (`postgresql+asyncpg://`). The server's certificate is
    verified, unless `sslmode` is `disable`, `allow` or `prefer`, or says nothing of a private host. Options that
    asyncpg can't take are dropped and logged by name.

    `statement_cache_size` is 0 behind a pooler (`pgbouncer=true`, or an address as poolers have them), more if it's
    known that there is none (`pgbouncer=false`), and left out if nothing is known.

    The address alone decides: the arguments leave nothing open that asyncpg would look up in variables (PGUSER, …) or
    in files of the home folder. Where the address leaves out the user, it is the account that this process runs as;
    the database, the one named like the user; the host, localhost; the port, 5432; the password, none is sent.
    Raises `BadDsn`.
    """
    url, query = _split(dsn)
    if dropped := tuple(sorted(set(query) & _DROPPED)):
        _log_once("info", "database options dropped", options=dropped)
    if "options" in query and not _ROUTES.fullmatch(query["options"]):
        raise BadDsn("of options, only endpoint=… is understood: set the rest with ALTER ROLE … SET …")
    host = query.get("host") or _host(url) or "localhost"
    if "," in host:
        raise BadDsn("only one host can be given; put a proxy or a name that moves in front of several")
    user = query.get("user") or unquote(url.username or "") or account()
    if not user:
        raise BadDsn("it names no user, and the account that Daybook runs as has no name: postgresql://user:password@…")
    tls = False if host.startswith("/") else _tls(host, query)
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
        "server_settings": {"application_name": query.get("application_name", "daybook")},
    }
    prepared = _prepared(host, arguments["port"], query)
    return arguments if prepared is None else {**arguments, "statement_cache_size": prepared}


def account() -> str | None:
    """Return the name of the account that this process runs as, as the system has it, if it has one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def _prepared(host: str, port: int, query: dict[str, str]) -> int | None:
    """How many statements a connection may keep prepared, if that can be told."""
    if "pgbouncer" in query:
        return 0 if query["pgbouncer"] == "true" else PREPARED
    if by := recognised(host, port):
        _log_once("info", "pooler recognised: no statement is prepared (?pgbouncer=false if there is none)", by=by)
        return 0
    return PREPARED if known_direct(host) else None


@cache
def _log_once(level: str, event: str, **fields: Hashable) -> None:
    """Log what is found again at each connection of this process."""
    getattr(_log, level)(event, **fields)


def _session(query: dict[str, str]) -> str:
    wanted = query.get("target_session_attrs", "any")
    if wanted not in ("any", "primary", "read-write"):
        raise BadDsn(f"target_session_attrs is any, primary or read-write, not {wanted}: Daybook writes")
    return wanted


def _split(dsn: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        url = urlsplit(dsn.strip())
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
    if query.get("pgbouncer", "true") not in ("true", "false"):
        raise BadDsn("pgbouncer is true or false")
    if unknown := sorted(set(query) - _KNOWN - _DROPPED):
        raise BadDsn(f"unknown option {', '.join(unknown)}")
    return url, query


def _option(text: str) -> tuple[str, str]:
    """As libpq reads it: a plus is a plus, where forms have it mean a space."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    return unquote(name), unquote(value)


def _host(url: SplitResult) -> str:
    """Of a folder for sockets, with its capitals, which `url.hostname` doesn't keep."""
    host = unquote(url.netloc.rpartition("@")[2].partition(":")[0])
    return host if host.startswith("/") else unquote(url.hostname or "")


def _number(query: dict[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not text.isdecimal() or int(text) > _LARGEST:
        raise BadDsn(f"{name} is no number up to {_LARGEST}")
    return int(text)


def _tls(host: str, query: dict[str, str]) -> ssl.SSLContext | str | bool:
    trusted_or_far = "sslrootcert" in query or not private(host)
    mode = query.get("sslmode") or query.get("ssl") or ("verify-full" if trusted_or_far else "prefer")
    if mode not in _MODES:
        raise BadDsn(f"sslmode {mode!r} is not one of {', '.join(_MODES)}")
    if mode not in _SECURE:
        if not private(host):
            told = "whoever is in between can read and change what the database says"
            _log_once("warning", told, host=host, sslmode=mode)
        return False if mode == "disable" else "prefer"
    for name in _TLS_OPTIONS & set(query):
        if query[name] != "system":
            try:
                with open(query[name], "rb"):  # noqa: PTH123 - only whether it can be
                    pass
            except OSError as error:
                raise BadDsn(f"{name} {query[name]!r} can't be read: {error.strerror or error}") from None
    root = query.get("sslrootcert", "system")
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
        if "sslcert" in query:
            context.load_cert_chain(query["sslcert"], query.get("sslkey"))
    except (OSError, ssl.SSLError) as error:
        raise BadDsn(f"sslrootcert, sslcert or sslkey is no certificate or key: {error}") from None
    context.check_hostname = mode != "verify-ca"
    context.set_alpn_protocols(["postgresql"])  # which sslnegotiation=direct needs
    return context
