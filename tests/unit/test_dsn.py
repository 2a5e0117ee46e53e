"""Database addresses as they are handed out."""

import os
import pwd
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from config.logs import once
from db.dsn import CONNECT_SECONDS, connect_arguments
from db.errors import BadDsn
from tests.certificates import Authority


@pytest.fixture(autouse=True)
def _nothing_was_said_before() -> None:
    once.cache_clear()


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
        "timeout": CONNECT_SECONDS,
        "direct_tls": False,
        "target_session_attrs": "any",
        "krbsrvname": "postgres",
        "gsslib": "gssapi",
        "server_settings": {"application_name": "daybook"},
        "statement_cache_size": 0,
    }
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("address", "by"),
    [
        ("ep-cool-1-pooler.c-2.eu-central-1.aws.neon.tech", "pooler in the host's name"),
        ("aws-0-eu-central-1.pooler.supabase.com:6543", "port 6543"),
        ("db.abcdefghijklmnop.supabase.co:6543", "port 6543"),
        ("pooled.db.prisma.io", "pooled in the host's name"),
        ("daybook.postgres.database.azure.com:6432", "port 6432"),
        ("x-useast1-1.horizon.psdb.cloud:6432", "port 6432"),
        ("db-postgresql-fra1-1.b.db.ondigitalocean.com:25061", "port 25061"),
        ("p.abc.db.postgresbridge.com:5431", "port 5431"),
        ("daybook.proxy-abc123.eu-central-1.rds.amazonaws.com", "an RDS proxy's name"),
        ("pgbouncer", "pgbouncer in the host's name"),
        ("PgBouncer2.railway.internal", "pgbouncer in the host's name"),
        ("daybook-pgcat:5432", "pgcat in the host's name"),
        ("pooler-daybook-rw.default.svc", "pooler in the host's name"),
        ("%2Frun%2Fpgbouncer", "pgbouncer in the host's name"),
    ],
)
def test_a_pooler_is_recognised_unless_it_is_denied(address: str, by: str) -> None:
    dsn = f"postgresql://ann@{address}/tasks"
    with capture_logs() as lines:
        assert connect_arguments(dsn)["statement_cache_size"] == 0
        connect_arguments(dsn)
    assert [line["by"] for line in lines] == [by]
    assert connect_arguments(f"{dsn}?pgbouncer=false")["statement_cache_size"] > 0


@pytest.mark.parametrize(
    "address",
    [
        *(
            "localhost",
            "db.example.com",
            "127.0.0.1:5433",
            "db.abcdefghijklmnop.supabase.co",
            "spooler",
            "poolers.example",
        ),
        *("aws-0-eu-central-1.pooler.supabase.com:5432", "db.prisma.io", "db.example.com:5431", "pooledge.example"),
    ],
)
def test_where_nothing_tells_of_a_pooler_nothing_is_taken_for_known(address: str) -> None:
    """Supabase's port 5432 is in session mode: a statement stays prepared, but settings may be seen by others."""
    assert "statement_cache_size" not in connect_arguments(f"postgresql://ann@{address}/tasks")
    assert connect_arguments(f"postgresql://ann@{address}/tasks?pgbouncer=true")["statement_cache_size"] == 0


def test_neons_direct_address_is_known_to_be_one() -> None:
    assert connect_arguments(NEON.replace("-pooler", ""))["statement_cache_size"] > 0


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgres+psycopg"])
def test_each_scheme_is_understood(scheme: str) -> None:
    arguments = connect_arguments(f"{scheme}://ann@db.example:6543/tasks")
    assert (arguments["host"], arguments["port"], arguments["database"]) == ("db.example", 6543, "tasks")


@pytest.mark.parametrize(
    "option",
    [
        *("pool_timeout=5", "channel_binding=prefer", "connection_limit=1", "socket_timeout=3", "schema=public"),
        *("channel_binding=disable", "pool_mode=transaction"),
        *("supa=base-pooler.x", "workaround=supabase-pooler.vercel", "uselibpqcompat=true", "pool_max_conns=5"),
        *("prepared_statement_cache_size=100", "statement_cache_size=50", "default_query_exec_mode=cache_statement"),
        *("currentSchema=public", "client_encoding=UTF8", "replication=false", "gssEncMode=prefer", "keepalives=1"),
        *("sslcompression=0", "krbsrvname=x", "load_balance_hosts=random", "conn_max_age=60", "prepareThreshold=5"),
        *("statement_timeout=5", "work_mem=1", "connectTimeout=4", "fallback_application_name=x", "nonsense=1"),
    ],
)
def test_what_asyncpg_cannot_take_is_dropped_and_named(option: str) -> None:
    with capture_logs() as lines:
        assert connect_arguments(f"postgresql://h/d?{option}") == connect_arguments("postgresql://h/d")
    assert [line["options"] for line in lines] == [(option.partition("=")[0],)]


@pytest.mark.parametrize("option", ["statement_cache_size=0", "prepared_statement_cache_size=0"])
def test_an_option_by_which_other_drivers_are_told_of_a_pooler_tells_us(option: str) -> None:
    assert connect_arguments(f"postgresql://h/d?{option}")["statement_cache_size"] == 0
    for both in (f"{option}&pgbouncer=false", f"pgbouncer=false&{option}"):
        assert connect_arguments(f"postgresql://h/d?{both}")["statement_cache_size"] > 0


@pytest.mark.parametrize(
    ("option", "argument", "value"),
    [
        ("host=db.internal", "host", "db.internal"),
        ("dbname=x", "database", "x"),
        ("database=x", "database", "x"),
        ("application_name=x", "server_settings", {"application_name": "x"}),
    ],
)
def test_parts_may_be_given_as_options(option: str, argument: str, value: object) -> None:
    assert connect_arguments(f"postgresql://ann@/?{option}")[argument] == value


@pytest.mark.parametrize("option", ["endpoint%3Dep-cool-1", "project%3Dep-cool-1"])
def test_neons_way_of_naming_the_database_is_not_needed(option: str) -> None:
    assert connect_arguments(f"postgresql://h/d?options={option}") == connect_arguments("postgresql://h/d")


@pytest.mark.parametrize(("said", "seconds"), [("4", 4.0), ("0", CONNECT_SECONDS)])
def test_connecting_may_take_as_long_as_is_said(said: str, seconds: float) -> None:
    assert connect_arguments(f"postgresql://h/d?connect_timeout={said}")["timeout"] == seconds


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ann@/daybook?host=/var/run/Post%20gres&port=5433",
        "postgresql://ann@%2Fvar%2Frun%2FPost%20gres:5433/daybook",
    ],
)
def test_a_socket_is_named_by_its_folder(dsn: str) -> None:
    arguments = connect_arguments(dsn)
    assert (arguments["host"], arguments["port"], arguments["ssl"]) == ("/var/run/Post gres", 5433, False)


def test_what_is_left_out_is_not_looked_up_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    account = pwd.getpwuid(os.geteuid()).pw_name
    for name in ("PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGPORT", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "7")
    arguments = connect_arguments("postgresql://")
    names = ("host", "port", "user", "password", "database")
    assert tuple(arguments[name] for name in names) == ("localhost", 5432, account, "", account)
    assert connect_arguments("postgresql://ann@h")["database"] == "ann"
    assert not [name for name, value in arguments.items() if value is None]


def test_an_account_without_a_name_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(BadDsn, match="names no user"):
        connect_arguments("postgresql://h/d")


@pytest.mark.parametrize("wanted", ["any", "primary", "read-write"])
def test_a_server_that_can_be_written_to_may_be_asked_for(wanted: str) -> None:
    assert connect_arguments(f"postgresql://h/d?target_session_attrs={wanted}")["target_session_attrs"] == wanted


@given(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)] * 2)
@example("ann", "p@ss:w/o?r#d%41 [x]+&=\\'\"")
def test_every_character_of_a_name_or_password_can_be_written(user: str, password: str) -> None:
    written = connect_arguments(f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h:1/d")
    asked = connect_arguments(f"postgresql://h:1/d?user={quote(user, safe='')}&password={quote(password, safe='')}")
    assert (written["user"], written["password"]) == (asked["user"], asked["password"]) == (user, password)


def test_a_password_may_have_a_plus_an_at_or_a_percent_sign_as_it_is() -> None:
    assert connect_arguments("postgresql://ann:a+b@c%@h/d")["password"] == "a+b@c%"
    assert connect_arguments("postgresql://h/d?password=a+b")["password"] == "a+b"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "10.1.2.3", "postgres", "db.internal"])
def test_a_private_host_is_not_asked_for_a_certificate(host: str) -> None:
    assert connect_arguments(f"postgresql://ann@{host}/d")["ssl"] == "prefer"


@pytest.mark.parametrize("host", ["db.example.com", "192.0.43.8", "[2001:4860::1]", "134744072", "0x08080808"])
def test_a_remote_host_must_show_one_unless_said_otherwise(host: str) -> None:
    context = connect_arguments(f"postgresql://ann@{host}/d")["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    with capture_logs() as lines:
        assert connect_arguments(f"postgresql://ann@{host}/d?sslmode=prefer")["ssl"] == "prefer"
    assert [line["log_level"] for line in lines] == ["warning"]


@pytest.mark.parametrize("option", ["ssl=true", "ssl=1", "ssl=require", "sslmode=require"])
@pytest.mark.parametrize("host", ["localhost", "db.example.com"])
def test_tls_is_verified_whoever_asks_for_it(option: str, host: str) -> None:
    context = connect_arguments(f"postgresql://ann@{host}/d?{option}")["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("option", ["sslmode=no-verify", "ssl=no-verify"])
def test_tls_that_verifies_nothing_is_warned_of_at_public_hosts(option: str) -> None:
    for host, warned in (("db.example.com", True), ("localhost", False)):
        with capture_logs() as lines:
            context = connect_arguments(f"postgresql://ann@{host}/d?{option}")["ssl"]
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
        assert ("whoever is in between" in str(lines)) == warned


@pytest.mark.parametrize("option", ["ssl=false", "ssl=0", "sslmode=disable", "sslmode=disable&ssl=true"])
def test_no_tls_can_be_asked_for_too(option: str) -> None:
    assert connect_arguments(f"postgresql://ann@db.example.com/d?{option}")["ssl"] is False


@pytest.mark.parametrize(("said", "version"), [("TLSv1", 2), ("TLSv1.2", 2), ("TLSv1.3", 3)])
def test_a_newer_version_of_tls_can_be_asked_for(said: str, version: int) -> None:
    context = connect_arguments(f"postgresql://h/d?sslmode=require&ssl_min_protocol_version={said}")["ssl"]
    assert context.minimum_version == {2: ssl.TLSVersion.TLSv1_2, 3: ssl.TLSVersion.TLSv1_3}[version]


@pytest.mark.parametrize(("mode", "expected"), [("disable", False), ("allow", "prefer"), ("prefer", "prefer")])
def test_weak_modes_do_not_verify(mode: str, expected: object) -> None:
    assert connect_arguments(f"postgresql://h/d?sslmode={mode}")["ssl"] == expected


def test_where_an_authority_is_named_it_is_asked_also_of_a_private_host(tmp_path: Path) -> None:
    context = connect_arguments(f"postgresql://localhost/d?sslrootcert={Authority.made(tmp_path).file}")["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_certificates_of_ones_own_are_read(tmp_path: Path) -> None:
    authority = Authority.made(tmp_path)
    certificate, key = authority.certificate("ann")
    context = connect_arguments(
        f"postgresql://h/d?sslmode=verify-full&sslrootcert={authority.file}&sslcert={certificate}&sslkey={key}"
        "&sslnegotiation=direct"
    )
    assert [each["subject"] for each in context["ssl"].get_ca_certs()] == [((("commonName", "Daybook's tests"),),)]
    assert context["direct_tls"] is True


def test_direct_tls_says_that_postgres_is_spoken(tmp_path: Path) -> None:
    """A server of version 17 or newer refuses the connection otherwise."""
    authority = Authority.made(tmp_path)
    ours = connect_arguments(f"postgresql://h/d?sslnegotiation=direct&sslrootcert={authority.file}")["ssl"]
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(*authority.certificate("h"))
    theirs.set_alpn_protocols(["postgresql"])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(back, there, server_hostname="h")
    server = theirs.wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert server.selected_alpn_protocol() == "postgresql"


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
        ("postgresql://ann:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
        ("postgresql://ann:hunter2@h/d?pgbouncer=ture", "pgbouncer"),
        ("postgresql:/ann:hunter2@h/d", "postgresql://"),
        ("postgresql://ann:12?hunter2=x@h/d", "%XX"),
        ("postgresql://ann:12/hunter2@h/d", "%XX"),
        ("postgresql://ann:hunter2@h/d?port=99999", "port"),
        ("postgresql://ann:hunter2@h/d?sslcrl=/its.pem", "sslcrl"),
        ("postgresql://ann:hunter2@h/d?sslrootcert=/nowhere.pem", "nowhere"),
        ("postgresql://ann:hunter2@h/d?options=-c%20search_path%3Da", "ALTER ROLE"),
        ("postgresql://ann:hunter2@h1,h2/d", "one host"),
        ("postgresql://ann:hunter2@h1:1,h2:2/d", "one host"),
        ("postgresql://ann:hun#ter2@h/d", "%XX|%23"),
        ("postgresql://ann:x@h/d#hunter2", "%23"),
        ("postgresql://ann:hunter2@h/d?sslmode=require&sslcert=/nowhere.pem", "nowhere"),
        (f"postgresql://ann:hunter2@h/d?sslmode=require&sslrootcert={__file__}", "sslrootcert=.*can't be used"),
        ("postgresql://ann:hunter2@h/d?nonsense", "no URL"),
        ("postgresql://ann:hunter2@h/d?target_session_attrs=standby", "Daybook writes"),
        ('"postgresql://ann:hunter2@h/d"', "quotes around it"),
        ("'postgresql://ann:hunter2@h/d'", "quotes around it"),
        ("“postgresql://ann:hunter2@h/d”", "quotes around it"),
        ('postgresql://ann:hunter2@h/d"', "quotes around it"),
        ('postgresql://ann:hunter2@h/d?sslmode="require"&connect_timeout=1', "sslmode or ssl is"),
        ("psql 'postgresql://ann:hunter2@h/d'", "command of psql's"),
        ('DATABASE_URL="postgresql://ann:hunter2@h/d"', "begins with a name"),
        ("postgresql://ann:hunter%FF@h/d", "must be UTF-8"),
        ("postgresql://ann:hun\tter2@h/d", "control character"),
        ("postgresql://ann:hunter2@h/d%00", "control character"),
        ("postgresql://ann:hunter2@h/d?sslmode=verify-ca&sslrootcert=%00", "control character"),
        (f"postgresql://ann:hunter2@h/d?connect_timeout={'9' * 5000}", "connect_timeout is no number"),
        ("postgresql://ann:hunter2@h/d?port=\u0663", "port is no number"),
        ("postgresql://ann:hunter2@h/d?sslcert=c.pem&sslkey=k.pem", "sslcert goes with sslmode=require"),
        (
            "postgresql://ann:hunter2@h/d?sslmode=allow&ssl_min_protocol_version=TLSv1.3",
            "ssl_min_protocol_version goes",
        ),
        ("postgresql://ann:hunter2@h/d?sslnegotiation=direct", "sslnegotiation goes with"),
        ("postgresql://ann:hunter2@h/d?sslmode=require&sslnegotiation=foo", "sslnegotiation is postgres or direct"),
        ("psql postgresql://ann:hunter2@h/d", "command of psql's"),
        ("DATABASE_URL=postgresql://ann:hunter2@h/d", "name and ="),
        ("jdbc:postgresql://h/d?user=ann&password=hunter2", "leave out jdbc:"),
        ("prisma+postgres://accelerate.prisma-data.net/?api_key=hunter2", "Accelerate"),
        ("postgresql://postgres:[YOUR-PASSWORD]@db.abc.supabase.co:5432/postgres", "still has to be put in"),
        ("host=h user=ann password=hunter2", "must be a URL"),
        ("postgresql://ann:hunter2@h/d?schema=tasks", "search_path"),
        ("postgresql://ann:hunter2@h/d?currentSchema=tasks", "currentSchema can.*search_path"),
        ("postgresql://ann:hunter2@h/d?gssencmode=require", "sslmode"),
        ("postgresql://ann:hunter2@h/d?sslpassword=hunter2", "openssl"),
        ("postgresql://ann:hunter2@h/d?sslidentity=a.p12", "sslcert.*pkcs12"),
        ("postgresql://ann:hunter2@h/d?passfile=/x", "into the address"),
        ("postgresql://ann:hunter2@h/d?service=x", "into the address"),
        ("postgresql://ann:hunter2@h/d?require_auth=scram-sha-256", "pg_hba"),
        ("postgresql://ann:hunter2@h/d?hostaddr=192.0.2.7", "as the host"),
        ("postgresql://ann:hunter2@h/d?ssl=maybe", "ssl is 'maybe'"),
        ("postgresql://ann:hunter2@h/d?sslaccept=strict", "sslmode, .* are understood"),
        ("postgresql://ann:hunter2@h/d?sslmod=verify-full", "sslmod can't be used"),
        ("postgresql://ann:hunter2@h/d?ssl-mode=REQUIRED", "ssl-mode can't be used"),
        ("postgresql://ann:hunter2@h/d?sslMode=require", "sslMode can't be used"),
        ("postgresql://ann:hunter2@h/d?requiressl=1", "requiressl can't be used"),
        ("postgresql://ann:hunter2@h/d?sslcertmode=require", "sslcertmode can't be used"),
        ("postgresql://ann:hunter2@h/d?ssl_max_protocol_version=TLSv1.2", "ssl_max_protocol_version can't be used"),
        ("postgresql://ann:hunter2@h/d?slmode=disable", "slmode is no option: sslmode and channel_binding say"),
        ("postgresql://ann:hunter2@h/d?SLMODE=x", "SLMODE is no option"),
        ("postgresql://ann:hunter2@h/d?mode=verify-full", "mode is no option"),
        ("postgresql://ann:hunter2@h/d?verify=full", "verify can't be used.* sslmode"),
        ("postgresql://ann:hunter2@h/d?channelBinding=require", "channelBinding is no option"),
        ("postgresql://ann:hunter2@h/d?channel_binding=require", "channel_binding goes with sslmode=require"),
        ("postgresql://ann:hunter2@h/d?channel_binding=required&sslmode=disable", "channel_binding goes with"),
        ("postgresql://ann:hunter2@h/d?channel_binding=require&sslmode=no-verify", "channel_binding goes with"),
        ("postgresql://ann:hunter2@h/d?search_path=tasks", "ALTER ROLE"),
        ("postgresql://ann:hunter2@h/d?requirepeer=postgres", "socket"),
        ("postgresql://ann:hunter2@h/d?sslmode=require&ssl_min_protocol_version=3", "TLSv1.3"),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_the_password(dsn: str, says: str) -> None:
    with pytest.raises(BadDsn, match=says) as raised:
        connect_arguments(dsn)
    assert "hunter2" not in str(raised.value)
