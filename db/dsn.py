"""Postgres addresses as they are handed out, made fit for asyncpg."""

import ssl
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import structlog

_log = structlog.get_logger(__name__)

# libpq knows these; asyncpg would send them on as server settings, which Postgres refuses.
_DROPPED = frozenset({
    "channel_binding", "connect_timeout", "pool_timeout", "options", "gssencmode", "keepalives",
    "sslcert", "sslkey", "sslcrl", "sslnegotiation", "target_session_attrs", "connection_limit", "schema",
})  # fmt: skip
_KNOWN = frozenset({
    "sslmode", "ssl", "sslrootcert", "host", "port", "user", "password", "dbname", "application_name", "pgbouncer",
})  # fmt: skip


class BadDsn(ValueError):
    """A database address that can't be used. The message never shows the password."""


def connect_arguments(dsn: str) -> dict[str, Any]:
    """Arguments for `asyncpg.connect` and `create_pool` from a URL as Neon, Heroku or libpq write it.

    Accepts `postgresql://`, `postgres://` and a driver suffix (`postgresql+asyncpg://`). `sslmode=require` and stricter
    verify the server's certificate. Behind a pooler (`-pooler` in the host's name, or `pgbouncer=true`) no statement is
    cached. Options that asyncpg can't take are dropped and logged by name. Raises `BadDsn`.
    """
    url, query = _split(dsn)
    if dropped := sorted(set(query) & _DROPPED):
        _log.info("database options dropped", options=dropped)
    host = query.get("host") or unquote(url.hostname or "") or "localhost"
    arguments: dict[str, Any] = {
        "host": host,
        "port": int(query.get("port") or url.port or 5432),
        "user": query.get("user") or unquote(url.username or "") or None,
        "password": query.get("password") or unquote(url.password or "") or None,
        "database": query.get("dbname") or unquote(url.path.removeprefix("/")) or None,
        "ssl": False if host.startswith("/") else _tls(query.get("sslmode") or query.get("ssl"), query),
        "server_settings": {"application_name": query.get("application_name", "daybook")},
    }
    if "-pooler" in host or query.get("pgbouncer") == "true":
        arguments["statement_cache_size"] = 0
    return arguments


def _split(dsn: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        url = urlsplit(dsn)
        _ = url.port
        query = {name: values[-1] for name, values in parse_qs(url.query, strict_parsing=bool(url.query)).items()}
    except ValueError:
        raise BadDsn("it is no URL: write odd characters of the password as %XX") from None
    if url.scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise BadDsn("it must start with postgresql://")
    if unknown := sorted(set(query) - _KNOWN - _DROPPED):
        raise BadDsn(f"unknown option {', '.join(unknown)}")
    if not query.get("port", "0").isdecimal():
        raise BadDsn("the port is no number")
    return url, query


def _tls(mode: str | None, query: dict[str, str]) -> ssl.SSLContext | str | bool:
    match mode:
        case "disable":
            return False
        case None | "allow" | "prefer":
            return "prefer"
        case "require" | "verify-ca" | "verify-full":
            root = query.get("sslrootcert", "system")
            try:
                context = ssl.create_default_context(cafile=None if root == "system" else root)
            except OSError as error:
                raise BadDsn(f"sslrootcert {root!r} can't be read: {error.strerror or error}") from None
            context.check_hostname = mode != "verify-ca"
            return context
    raise BadDsn(f"sslmode {mode!r} is not one of disable, prefer, require, verify-ca, verify-full")
