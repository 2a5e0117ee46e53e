"""Options in the query of a database's address: those that are understood, dropped or refused."""

from collections.abc import Mapping


class BadDsn(ValueError):
    """A database address that can't be used. The message never shows the password."""


Options = Mapping[str, str]

_SYNONYMS = {
    "database": "dbname",
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "encoding": "client_encoding",
    "charset": "client_encoding",
    "currentSchema": "schema",
    "search_path": "schema",
    "gssEncMode": "gssencmode",
}
_DONE = frozenset({
    "host", "hostaddr", "port", "user", "password", "dbname", "application_name", "fallback_application_name",
    "connect_timeout", "options", "target_session_attrs", "sslmode", "ssl", "sslaccept", "sslnegotiation",
    "sslrootcert", "sslcert", "sslkey", "ssl_min_protocol_version",
})  # fmt: skip
_OFF = frozenset({"0", "false", "off", "no", "disable", "disabled"})
_POOLED: Mapping[str, frozenset[str]] = {
    "pgbouncer": frozenset({"true"}),  # Prisma
    "pool_mode": frozenset({"transaction", "statement"}),
    "statement_cache_size": _OFF,  # asyncpg, Prisma
    "prepared_statement_cache_size": _OFF,  # SQLAlchemy
    "statement_cache_capacity": _OFF,  # pgx
    "statement-cache-capacity": _OFF,  # sqlx
    "default_query_exec_mode": frozenset({"simple_protocol", "exec", "describe_exec"}),  # pgx
    "prepareThreshold": _OFF,  # JDBC
    "prepare": _OFF,  # postgres.js
    "prepared_statements": _OFF,  # Rails
}
"""Options, with their values, that tell a driver of a pooler in transaction mode."""
_DROPPED = frozenset({
    # of poolers and pools: DATABASE_POOL_SIZE is used instead
    "connection_limit", "pool_timeout", "pool_size", "max_overflow", "pool_recycle", "pool_pre_ping", "max", "min",
    "pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time",
    "pool_max_conn_lifetime_jitter", "pool_health_check_period", "conn_max_age", "conn_health_checks", "pool",
    "max_pool_size", "min_pool_size", "idle_timeout", "max_lifetime", "prepared_statement_name_func",
    "async_fallback", "prepare_threshold", "single_use_connections", "supa", "workaround",
    # of time: DATABASE_TIMEOUT is used instead
    "socket_timeout", "socketTimeout", "loginTimeout", "query_timeout", "command_timeout",
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "tcpKeepAlive",
    # of other drivers alone, or weaker than our defaults
    "channel_binding", "uselibpqcompat", "sslcompression", "sslsni", "sslkeylogfile", "load_balance_hosts",
    "krbsrvname", "gsslib", "gssdelegation", "min_protocol_version", "max_protocol_version", "reWriteBatchedInserts",
    "binary_parameters", "stringtype", "description_cache_capacity",
})  # fmt: skip
_DROPPED_IF: Mapping[str, tuple[frozenset[str], str]] = {
    "schema": (
        frozenset({"public"}),
        "Daybook's tables lie where the login's search_path begins: ALTER ROLE … SET search_path = …",
    ),
    "client_encoding": (frozenset({"utf8", "utf-8", "unicode", "auto"}), "text is sent as UTF-8"),
    "replication": (_OFF, "Daybook makes no replication connections"),
    "gssencmode": (frozenset({"disable", "prefer"}), "use TLS (sslmode) instead of GSSAPI"),
    "sslcertmode": (frozenset({"disable", "allow"}), "name a certificate with sslcert and sslkey"),
}
"""Options that may be dropped with these values, and the advice for other values."""
_FILES = "Daybook reads no file of libpq's: write into the address what it says"
_REFUSED: Mapping[str, str] = {
    "service": _FILES,
    "servicefile": _FILES,
    "passfile": _FILES,
    "sslpassword": "take the password off the key, with openssl pkey, and protect the file",
    "sslidentity": "write the certificate and the key as two files, for sslcert and sslkey, with openssl pkcs12",
    "sslfactory": "say sslmode=verify-full with sslrootcert=…, or sslmode=no-verify",
    "sslcrl": "revocation lists aren't read: name an authority that ends its certificates soon as sslrootcert",
    "sslcrldir": "revocation lists aren't read: name an authority that ends its certificates soon as sslrootcert",
    "ssl_max_protocol_version": "leave it out: the newest version that both sides have is used",
    "require_auth": "leave it out, and let pg_hba.conf say which methods are taken",
    "requirepeer": "leave it out, and let permissions of the socket's folder say whom to trust",
    "statement_timeout": "set DATABASE_TIMEOUT, or ALTER ROLE … SET statement_timeout = …",
    "lock_timeout": "set it with ALTER ROLE … SET lock_timeout = …",
    "idle_in_transaction_session_timeout": "set it with ALTER ROLE … SET idle_in_transaction_session_timeout = …",
}
QUOTES = ("'", '"', "`", "\u2018", "\u2019", "\u201c", "\u201d")
"""Quotation marks, including those that text programs make of them."""


def understood(query: Options) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the options that we understand, under one name each, and the names of the dropped ones.

    Raises `BadDsn` for options that are unknown or can't be honoured.
    """
    kept: dict[str, str] = {}
    dropped: list[str] = []
    for written, value in query.items():
        name = _SYNONYMS.get(written, written)
        if name not in ("user", "password") and value.startswith(QUOTES):
            raise BadDsn(f"{written} has quotes around its value: write it without")
        if name in _REFUSED:
            raise BadDsn(f"{written} can't be used here: {_REFUSED[name]}")
        if name in _DONE or name == "pgbouncer" or value.lower() in _POOLED.get(name, ()):
            kept[name] = value
        elif name in _DROPPED or name in _POOLED or (name in _DROPPED_IF and value.lower() in _DROPPED_IF[name][0]):
            dropped.append(written)
        elif name in _DROPPED_IF:
            raise BadDsn(f"{written}={value} can't be used here: {_DROPPED_IF[name][1]}")
        else:
            raise BadDsn(
                f"unknown option {written}: leave it out or, if it's a setting of Postgres, make it with"
                f" ALTER ROLE … SET {written} = …"
            )
    return kept, tuple(sorted(dropped))


def pooled(query: Options) -> bool | None:
    """Say whether there is a pooler in transaction mode; None if the `understood` options don't. Raises `BadDsn`."""
    if "pgbouncer" in query:
        if query["pgbouncer"] not in ("true", "false"):
            raise BadDsn("pgbouncer is true or false")
        return query["pgbouncer"] == "true"
    return True if query.keys() & _POOLED.keys() else None
