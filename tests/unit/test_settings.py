"""Wrong settings fail early, by name, and never show a secret."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.errors import BadSettings
from config.given import with_named_files
from config.settings import VARIABLES, Settings, load

LONG = "x" * 32
PRODUCTION = {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://h/d", "JWT_SECRET": LONG}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load()


def test_development_needs_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch)
    assert (settings.environment, settings.database_url, settings.log_form) == ("development", None, "console")


@pytest.mark.parametrize(
    ("variables", "served"),
    [
        ({}, True),
        ({"WEB": "false"}, False),
        (PRODUCTION, False),
        ({**PRODUCTION, "WEB": "true", "WEB_LOGIN_URL": "https://app.example.com/in"}, True),
        ({**PRODUCTION, "WEB": "true", "WEB_LOGIN_URL": "http://localhost:3000/in"}, True),
    ],
)
def test_the_page_is_served_in_development_and_else_if_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], served: bool
) -> None:
    assert load_with(monkeypatch, **variables).serves_web is served


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, DATABASE_URL="", JWT_SECRET="").database_url is None


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setattr("config.settings._SECRETS", folder)
    return folder


def test_secrets_are_read_from_files_too(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "database_url").write_text("postgresql://h/d\n")
    (secrets / "jwt_secret").write_text(LONG)
    settings = load_with(monkeypatch, ENVIRONMENT="production")
    assert (settings.service_url, settings.signing_secret) == ("postgresql://h/d", LONG)
    assert load_with(monkeypatch, DATABASE_URL="postgresql://other/d").service_url == "postgresql://other/d"


def test_an_empty_secrets_file_counts_as_none(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "daybook_signing_key").touch()
    assert load_with(monkeypatch).daybook_signing_key is None


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_URL_DIRECT", "JWT_SECRET", "BETTER_AUTH_SECRET"])
def test_a_secrets_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = tmp_path / "a secret"
    file.write_text(LONG + "\n")
    settings = load_with(monkeypatch, **{f"{name}_FILE": str(file)})
    secret = getattr(settings, VARIABLES[name])
    assert secret.get_secret_value() == LONG
    with pytest.raises(BadSettings, match=f"{name}_FILE: {name} is set, too"):
        load_with(monkeypatch, **{f"{name}_FILE": str(file), name: LONG})


def test_a_named_file_of_the_environment_goes_before_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_text("n" * 40)
    Path(".env").write_text(f"JWT_SECRET={LONG}\n")
    assert load_with(monkeypatch, JWT_SECRET_FILE=str(tmp_path / "new")).signing_secret == "n" * 40
    Path(".env").write_text(f"JWT_SECRET_FILE={tmp_path}/new\n")
    monkeypatch.delenv("JWT_SECRET_FILE")
    assert load().signing_secret == "n" * 40
    assert load_with(monkeypatch, JWT_SECRET=LONG).signing_secret == LONG


def test_any_setting_can_be_in_a_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audience").write_text("tasks\n")
    assert load_with(monkeypatch, JWT_SECRET=LONG, JWT_AUDIENCE_FILE=str(tmp_path / "audience")).jwt_audience == "tasks"


def test_a_byte_order_mark_is_no_part_of_a_secret(
    tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (secrets / "jwt_secret", tmp_path / "secret"):
        file.write_text(LONG, "utf-8-sig")
    assert load_with(monkeypatch).signing_secret == LONG
    assert load_with(monkeypatch, JWT_SECRET_FILE=str(tmp_path / "secret")).signing_secret == LONG


@pytest.mark.parametrize("given", ["hunter2", "postgresql://ann:hunter2@db/d", "hunter2\0"])
def test_a_secret_in_the_place_of_its_files_name_is_not_shown(given: str) -> None:
    with pytest.raises(BadSettings, match=r"^DATABASE_URL_FILE: ") as stopped:
        with_named_files({"DATABASE_URL_FILE": given}, {"DATABASE_URL"})
    assert "hunter2" not in str(stopped.value)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "can't be read: No such file"), (b" \n", "is empty"), (b"\xff" * 40, "UTF-8")]
)
def test_a_named_file_without_a_secret_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSettings, match=r"^JWT_SECRET_FILE: ") as stopped:
        load_with(monkeypatch, JWT_SECRET_FILE=str(file))
    assert says in str(stopped.value)


def test_a_secret_of_a_file_is_judged_as_any_other(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "jwt_secret").write_text("hunter2")
    with pytest.raises(BadSettings, match="32 bytes") as stopped:
        load_with(monkeypatch)
    assert "hunter2" not in str(stopped.value)


def test_a_secret_that_is_no_text_is_named(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "jwt_secret").write_bytes(b"\xff" * 40)
    with pytest.raises(BadSettings, match="jwt_secret"):
        load_with(monkeypatch)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ENVIRONMENT": "production"}, ["DATABASE_URL", "BETTER_AUTH_URL", "JWT_JWKS_URL", "JWT_SECRET"]),
        ({"ENVIRONMENT": "production", "JWT_SECRET": LONG}, ["DATABASE_URL"]),
        ({"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://h/d"}, ["JWT_SECRET"]),
        ({"ENVIRONMENT": "staging"}, ["ENVIRONMENT", "production"]),
        ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL", "INFO"]),
        ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT", "json"]),
        ({"JWT_SECRET": "hunter2"}, ["JWT_SECRET", "32 bytes", "7"]),
        ({"JWT_SECRET": "-----BEGIN PUBLIC KEY-----\nMFkw…\n-----END PUBLIC KEY-----"}, ["JWT_SECRET", "JWT_JWKS_URL"]),
        ({"BETTER_AUTH_SECRET": f"ssh-rsa {'A' * 40}"}, ["BETTER_AUTH_SECRET", "JWT_JWKS_URL"]),
        ({"BETTER_AUTH_SECRET": "hunter2" + "x" * 24}, ["BETTER_AUTH_SECRET", "32 bytes", "31"]),
        ({"BETTER_AUTH_URL": "app.example.com"}, ["BETTER_AUTH_URL", "must be a URL such as https://"]),
        ({"BETTER_AUTH_URL": "localhost:3000"}, ["BETTER_AUTH_URL", "must be a URL such as https://"]),
        ({"BETTER_AUTH_URL": "ftp://app.example.com"}, ["BETTER_AUTH_URL", "must be a URL such as https://"]),
        ({"BETTER_AUTH_URL": "https://app.example.com/api/auth/jwks"}, ["BETTER_AUTH_URL", "without /jwks"]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.1, nginx"}, ["FORWARDED_ALLOW_IPS", "addresses or networks"]),
        ({"ROOT_PATH": "daybook"}, ["ROOT_PATH", "a path such as /daybook"]),
        ({"ROOT_PATH": "https://app.example.com/daybook"}, ["ROOT_PATH", "a path such as /daybook"]),
        ({"ROOT_PATH": "//app.example.com"}, ["ROOT_PATH", "a path such as /daybook"]),
        ({"ROOT_PATH": "/a/../b"}, ["ROOT_PATH", "a path such as /daybook"]),
        ({"ROOT_PATH": "/a\n"}, ["ROOT_PATH", "a path such as /daybook"]),
        ({"ROOT_PATH": f"/{'a' * 255}"}, ["ROOT_PATH", "a path such as /daybook"]),
        ({"BETTER_AUTH_URL": "https://ann:hunter2@app.example.com"}, ["BETTER_AUTH_URL", "without user, password"]),
        ({"JWT_JWKS_URL": "https://app.example.com/jwks?key=hunter2"}, ["JWT_JWKS_URL", "query"]),
        ({"JWT_JWKS_URL": "https://app.example.com/jwks#hunter2"}, ["JWT_JWKS_URL", "fragment"]),
        ({"CORS_ORIGINS": "app.example.com"}, ["CORS_ORIGINS", "https://app.example.com"]),
        ({"CORS_ORIGINS": "https://app.example.com/tasks"}, ["CORS_ORIGINS", "origins such as"]),
        ({"CORS_ORIGINS": "https://*.com"}, ["CORS_ORIGINS", "names that anybody can have"]),
        ({"CORS_ORIGINS": "https://app.example.com, null"}, ["CORS_ORIGINS", "null"]),
        ({"CORS_ORIGINS": "https://hunter2@x"}, ["CORS_ORIGINS", "origins such as"]),
        ({**PRODUCTION, "BETTER_AUTH_URL": "http://app.example.com"}, ["BETTER_AUTH_URL", "https"]),
        ({**PRODUCTION, "JWT_JWKS_URL": "http://192.0.2.7.example/jwks"}, ["JWT_JWKS_URL", "https"]),
        ({**PRODUCTION, "JWT_JWKS_URL": "http://8.8.8.8/jwks"}, ["JWT_JWKS_URL", "https"]),
        ({**PRODUCTION, "JWT_JWKS_URL": "http://[2606:4700::1111]/jwks"}, ["JWT_JWKS_URL", "https"]),
        ({**PRODUCTION, "JWT_JWKS_URL": "http://localhost.example.com/jwks"}, ["JWT_JWKS_URL", "https"]),
        ({**PRODUCTION, "CORS_ORIGINS": "https://app.example.com,*"}, ["CORS_ORIGINS", "not *"]),
        ({**PRODUCTION, "WEB": "true"}, ["WEB_LOGIN_URL", "nobody could sign in"]),
        ({**PRODUCTION, "WEB": "true", "WEB_LOGIN_URL": "http://app.example.com/in"}, ["WEB_LOGIN_URL", "https"]),
        ({"WEB_LOGIN_URL": "https://app.example.com/in?next=x"}, ["WEB_LOGIN_URL", "without"]),
    ],
)
def test_a_wrong_setting_is_named_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: list[str]
) -> None:
    with pytest.raises(BadSettings) as raised:
        load_with(monkeypatch, **variables)
    for each in says:
        assert each in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("JWT_AUDIENC", "JWT_AUDIENCE"),
        ("jwt_issuers", "JWT_ISSUER"),
        ("JTW_AUDIENCE", "JWT_AUDIENCE"),
        ("JWT_JWKS_URI", "JWT_JWKS_URL"),
        ("ENVIROMENT", "ENVIRONMENT"),
    ],
)
@pytest.mark.parametrize("source", ["environment", "file", "pipe", "secret"])
def test_a_misspelt_setting_that_makes_the_service_safer_is_refused(
    monkeypatch: pytest.MonkeyPatch, secrets: Path, name: str, meant: str, source: str
) -> None:
    if source == "file":
        Path(".env").write_text(f"{name}=hunter2\n")
    elif source == "secret":
        (secrets / name.lower()).write_text("hunter2")
    with piped(f"{name}=hunter2\n") if source == "pipe" else nullcontext(), pytest.raises(BadSettings) as raised:
        load_with(monkeypatch, **({name: "hunter2"} if source == "environment" else {}))
    assert str(raised.value) == f"{name.upper()}: is no setting; write {meant}, or unset it"


def test_a_misspelt_setting_is_refused_beside_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings, match="JWT_AUDIENCES: is no setting"):
        load_with(monkeypatch, JWT_AUDIENCES="x", JWT_AUDIENCE="")


def warned(settings: Settings) -> list[tuple[str, str]]:
    with capture_logs() as logged:
        settings.warn_of_near_misses()
    return [(line["name"], line["setting"]) for line in logged]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABASE_POOLSIZE", "DATABASE_POOL_SIZE"),
        ("DATABASE_TIMEOUT_MS", "DATABASE_TIMEOUT"),
        ("JWT_SECRET_2", "JWT_SECRET"),
        ("BETTER_AUTH_SECRETS", "BETTER_AUTH_SECRET"),
    ],
)
def test_another_name_like_a_setting_is_only_told(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    assert warned(load_with(monkeypatch, **{name: "x"})) == [(name, meant)]


def test_a_name_like_a_setting_is_fine_beside_that_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"CORS_ORIGINS": "https://app.example.com", "BETTER_AUTH_SECRET": LONG, "JWT_AUDIENCE": "a"}
    like = {"CORS_ORIGIN": "x", "JWT_SECRET_2": LONG, "JWT_AUDIENCES": "x", "JWT_ISSUERS": ""}
    assert not warned(load_with(monkeypatch, **given, **like))


@pytest.mark.parametrize(
    "name",
    [
        "DATABASE_URL_UNPOOLED", "DATABASE_USER", "DATABASE_HOST", "DATABASE_PUBLIC_URL", "JWT_SECRET_KEY",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ],
)  # fmt: skip
def test_other_programs_variables_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert not warned(load_with(monkeypatch, **{name: "x"}))


@pytest.mark.parametrize("name", ["LOGLEVEL", "DATABASE_POOL_MAX_SIZE"])
def test_no_start_is_refused_for_another_programs_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    load_with(monkeypatch, **{name: "x"})


def test_a_setting_without_a_value_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("JWT_AUDIENCE\nUNRELATED\n")
    with pytest.raises(BadSettings) as raised:
        load_with(monkeypatch, JWT_AUDIENCE="")
    assert str(raised.value) == "JWT_AUDIENCE: has no value in .env; write JWT_AUDIENCE=value, or remove the line"


def test_a_setting_without_a_value_in_the_file_may_be_set_elsewhere(
    monkeypatch: pytest.MonkeyPatch, secrets: Path
) -> None:
    Path(".env").write_text("JWT_AUDIENCE\nJWT_ISSUER\n")
    (secrets / "jwt_issuer").write_text("i")
    settings = load_with(monkeypatch, JWT_AUDIENCE="a")
    assert (settings.jwt_audience, settings.jwt_issuer) == ("a", "i")


@contextmanager
def piped(text: str) -> Iterator[None]:
    """Make `.env` a pipe, whose text can be read once."""
    os.mkfifo(".env")
    writing = threading.Thread(target=Path(".env").write_text, args=(text,))
    writing.start()
    yield
    writing.join()


def test_settings_are_read_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped(f"JWT_SECRET={LONG}\nJWT_ISSUER=${{JWT_AUDIENCE}}\n"):
        settings = load_with(monkeypatch, JWT_AUDIENCE="a")
    assert (settings.signing_secret, settings.jwt_issuer) == (LONG, "a")


def test_of_two_names_the_first_counts_wherever_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"JWT_SECRET={LONG}\n")
    assert load_with(monkeypatch, BETTER_AUTH_SECRET="y" * 32).signing_secret == LONG


def test_a_secret_that_cannot_be_read_is_named(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "kubernetes.io").mkdir()
    (secrets / "jwt_secret").symlink_to("/proc/self/mem")
    with pytest.raises(BadSettings, match="jwt_secret: can't be read"):
        load_with(monkeypatch)


def test_a_timeout_too_short_for_any_statement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings, match="DATABASE_TIMEOUT"):
        load_with(monkeypatch, DATABASE_TIMEOUT="1e-9")


def test_a_secret_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, JWT_SECRET="ü" * 16).signing_secret == "ü" * 16


def test_better_auths_secret_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, BETTER_AUTH_SECRET=LONG).signing_secret == LONG
    assert load_with(monkeypatch, JWT_SECRET="y" * 32).signing_secret == "y" * 32


def test_production_logs_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, **PRODUCTION).log_form == "json"
    assert load_with(monkeypatch, LOG_FORMAT="console").log_form == "console"


def test_a_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"JWT_SECRET={LONG}\nLOG_LEVEL=debug\nUNRELATED=1\n")
    settings = load_with(monkeypatch, LOG_LEVEL="error")
    assert (settings.signing_secret, settings.log_level) == (LONG, "ERROR")


def test_migrations_go_to_the_direct_url_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = load_with(monkeypatch, DATABASE_URL="postgresql://pooled/d")
    assert pooled.migration_url == pooled.service_url == "postgresql://pooled/d"
    both = load_with(monkeypatch, DATABASE_URL_DIRECT="postgresql://direct/d")
    assert (both.migration_url, both.service_url) == ("postgresql://direct/d", "postgresql://pooled/d")


def test_a_secret_is_made_once_and_kept_to_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = load_with(monkeypatch).signing_secret
    assert secret is not None
    kept = Path(".daybook/jwt_secret")
    assert len(secret.encode()) >= 32
    assert load().signing_secret == secret == kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in kept.parent.iterdir()] == ["jwt_secret"]


def test_a_kept_secret_that_is_too_short_is_refused() -> None:
    Path(".daybook").mkdir()
    Path(".daybook/jwt_secret").write_text("")
    with pytest.raises(BadSettings, match="too short"):
        _ = load().signing_secret


def test_secrets_are_not_in_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, JWT_SECRET=LONG, DATABASE_URL="postgresql://ann:hunter2@h/d")
    assert LONG not in repr(settings)
    assert "hunter2" not in repr(settings)


APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("url", "jwks", "origin"),
    [
        (APP, f"{APP}/api/auth/jwks", APP),
        (f"{APP}/", f"{APP}/api/auth/jwks", APP),
        ("HTTPS://App.Example.com:443", f"{APP}/api/auth/jwks", APP),
        ("http://localhost:3000", "http://localhost:3000/api/auth/jwks", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000/api/auth/jwks", "http://[::1]:3000"),
        (f"{APP}/api/auth", f"{APP}/api/auth/jwks", APP),
        (f"{APP}/login/", f"{APP}/login/jwks", APP),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example/api/auth/jwks", "https://xn--bcher-kva.example"),
    ],
)
def test_better_auths_url_says_where_its_keys_are_and_who_it_is(
    monkeypatch: pytest.MonkeyPatch, url: str, jwks: str, origin: str
) -> None:
    settings = load_with(monkeypatch, BETTER_AUTH_URL=url)
    assert (str(settings.jwks_url), settings.jwks_issuer, settings.jwks_audience) == (jwks, origin, origin)
    assert (settings.jwt_issuer, settings.jwt_audience) == (None, None)  # these are for all tokens
    assert settings.cors[0] == origin


def test_each_of_these_can_be_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(
        monkeypatch,
        BETTER_AUTH_URL=APP,
        JWT_JWKS_URL="http://web:3000/k",
        JWT_ISSUER="i",
        JWT_AUDIENCE="a",
        CORS_ORIGINS="http://x",
    )
    assert (str(settings.jwks_url), settings.jwks_issuer, settings.jwks_audience) == ("http://web:3000/k", "i", "a")
    assert settings.cors == ("http://x",)


def test_a_jwks_url_alone_sets_neither_issuer_nor_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, JWT_JWKS_URL="https://id.example/jwks.json")
    assert (settings.jwks_issuer, settings.jwks_audience) == (None, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "http://10.0.0.7",
        "http://web:3000",
        "http://web.railway.internal",
        "http://web.default.svc.cluster.local",
    ],
)
def test_keys_come_by_https_or_a_private_network_in_production(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load_with(monkeypatch, **{**PRODUCTION, "JWT_SECRET": ""}, BETTER_AUTH_URL=url).jwks_url


def test_no_secret_is_made_if_there_is_an_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, BETTER_AUTH_URL=APP).signing_secret is None
    assert not Path(".daybook").exists()
    assert load_with(monkeypatch, JWT_SECRET=LONG).signing_secret == LONG


def test_origins_are_taken_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch, CORS_ORIGINS=" https://App.example.com/ ,http://localhost:80,, http://x:8080")
    assert settings.cors == (APP, "http://localhost", "http://x:8080")


@pytest.mark.parametrize(
    ("proxies", "meant"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("10.0.0.0/8, ::1,", "10.0.0.0/8,::1/128"),
        ("10.0.0.7/8", "10.0.0.0/8"),
        ("*", "*"),
        ("10.0.0.1, *", "*"),
        (" , ", ""),
    ],
)
def test_proxies_are_named_by_address(monkeypatch: pytest.MonkeyPatch, proxies: str, meant: str) -> None:
    assert load_with(monkeypatch, FORWARDED_ALLOW_IPS=proxies).forwarded_allow_ips == meant


@pytest.mark.parametrize(
    ("path", "meant"), [("/daybook", "/daybook"), ("/a/b.c-d_e~f/", "/a/b.c-d_e~f"), ("/", ""), ("", "")]
)
def test_a_path_prefix_ends_without_a_slash(monkeypatch: pytest.MonkeyPatch, path: str, meant: str) -> None:
    assert load_with(monkeypatch, ROOT_PATH=path).root_path == meant


def test_a_star_is_fine_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, CORS_ORIGINS="*").cors == ("*",)
