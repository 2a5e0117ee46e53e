"""Database addresses as they are handed out."""

import ssl

import pytest

from db.dsn import BadDsn, connect_arguments

NEON = "postgresql://ann:s3cr%2Fet@ep-cool-1-pooler.eu-central-1.aws.neon.tech/daybook?sslmode=require&channel_binding=require"


def test_neons_string_is_taken_as_it_is() -> None:
    arguments = connect_arguments(NEON)
    context = arguments.pop("ssl")
    assert arguments == {
        "host": "ep-cool-1-pooler.eu-central-1.aws.neon.tech",
        "port": 5432,
        "user": "ann",
        "password": "s3cr/et",
        "database": "daybook",
        "server_settings": {"application_name": "daybook"},
        "statement_cache_size": 0,
    }
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_without_a_pooler_statements_are_cached() -> None:
    assert "statement_cache_size" not in connect_arguments(NEON.replace("-pooler", ""))


@pytest.mark.parametrize(("said", "cached"), [("true", False), ("false", True)])
def test_a_pooler_may_be_named_as_prisma_does(said: str, cached: bool) -> None:
    arguments = connect_arguments(f"postgresql://ann@db.example/tasks?pgbouncer={said}")
    assert ("statement_cache_size" not in arguments) == cached


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgres+psycopg"])
def test_each_scheme_is_understood(scheme: str) -> None:
    arguments = connect_arguments(f"{scheme}://ann@db.example:6543/tasks")
    assert (arguments["host"], arguments["port"], arguments["database"]) == ("db.example", 6543, "tasks")


@pytest.mark.parametrize(
    "option", ["connect_timeout=10", "pool_timeout=5", "options=endpoint%3Dep-cool-1", "channel_binding=prefer"]
)
def test_what_asyncpg_cannot_take_is_dropped(option: str) -> None:
    assert connect_arguments(f"postgresql://h/d?{option}") == connect_arguments("postgresql://h/d")


def test_a_socket_is_named_by_its_folder() -> None:
    arguments = connect_arguments("postgresql://ann@/daybook?host=/var/run/post%20gres&port=5433")
    assert (arguments["host"], arguments["port"], arguments["ssl"]) == ("/var/run/post gres", 5433, False)


@pytest.mark.parametrize(
    ("mode", "expected"), [("disable", False), ("allow", "prefer"), ("prefer", "prefer"), (None, "prefer")]
)
def test_weak_modes_do_not_verify(mode: str | None, expected: object) -> None:
    assert connect_arguments("postgresql://h/d" + (f"?sslmode={mode}" if mode else ""))["ssl"] == expected


@pytest.mark.parametrize(("mode", "names"), [("require", True), ("verify-full", True), ("verify-ca", False)])
def test_strong_modes_verify(mode: str, names: bool) -> None:
    context = connect_arguments(f"postgresql://h/d?sslmode={mode}&sslrootcert=system")["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, names)


@pytest.mark.parametrize(
    ("dsn", "says"),
    [
        ("mysql://ann:hunter2@h/d", "postgresql://"),
        ("hunter2", "postgresql://"),
        ("postgresql://ann:hunter2@h:port/d", "no URL"),
        ("postgresql://ann:hunter2@h/d?sslmode=yes", "sslmode"),
        ("postgresql://ann:hunter2@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem", "nowhere"),
        ("postgresql://ann:hunter2@h/d?port=x", "port"),
        ("postgresql://ann:hunter2@h/d?statement_timeout=5", "statement_timeout"),
        ("postgresql://ann:hunter2@h/d?nonsense", "no URL"),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_the_password(dsn: str, says: str) -> None:
    with pytest.raises(BadDsn, match=says) as raised:
        connect_arguments(dsn)
    assert "hunter2" not in str(raised.value)
