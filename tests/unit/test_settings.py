"""Settings fail early, by name, and never show a secret."""

import stat
from pathlib import Path

import pytest

from config.settings import BadSettings, Settings, load

LONG = "x" * 32


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load()


def test_nothing_need_be_set_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_with(monkeypatch)
    assert (settings.environment, settings.database_url, settings.log_form) == ("development", None, "console")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, DATABASE_URL="", JWT_SECRET="").database_url is None


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ENVIRONMENT": "production"}, ["DATABASE_URL", "JWT_SECRET"]),
        ({"ENVIRONMENT": "production", "JWT_SECRET": LONG}, ["DATABASE_URL"]),
        ({"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://h/d"}, ["JWT_SECRET"]),
        ({"ENVIRONMENT": "staging"}, ["ENVIRONMENT", "production"]),
        ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL", "INFO"]),
        ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT", "json"]),
        ({"JWT_SECRET": "hunter2"}, ["JWT_SECRET", "32 bytes", "7"]),
        ({"BETTER_AUTH_SECRET": "hunter2" + "x" * 24}, ["BETTER_AUTH_SECRET", "32 bytes", "31"]),
    ],
)
def test_what_is_wrong_is_named_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: list[str]
) -> None:
    with pytest.raises(BadSettings) as raised:
        load_with(monkeypatch, **variables)
    for each in says:
        assert each in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_secret_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, JWT_SECRET="ü" * 16).signing_secret == "ü" * 16


def test_better_auths_secret_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_with(monkeypatch, BETTER_AUTH_SECRET=LONG).signing_secret == LONG
    assert load_with(monkeypatch, JWT_SECRET="y" * 32).signing_secret == "y" * 32


def test_production_logs_json(monkeypatch: pytest.MonkeyPatch) -> None:
    production = {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://h/d", "JWT_SECRET": LONG}
    assert load_with(monkeypatch, **production).log_form == "json"
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
