"""Settings, from the environment or `.env` (README.md, "Settings")."""

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import structlog
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from config import env_file, given, origins, rates
from config.errors import BadSettings
from config.hosts import private
from config.rates import Rates

_log = structlog.get_logger(__name__)

USER_ID = re.compile(r"(?!\.\.?\Z)[^/\0\ud800-\udfff]{1,255}")
"""Pattern of user ids: opaque, but fit for a path segment and a text column (docs/http-api.md, "Tasks")."""

PATH_PREFIX = re.compile(r"(?=.{1,255}\Z)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
"""Pattern of a service's path: segments of characters with one meaning in every URL (RFC 3986, section 2.3)."""

SHORTEST_SECRET = 32
"""Smallest length of a secret, in bytes. A shorter HS256 key can be guessed (RFC 7518, section 3.2)."""


_KEY_FILE = "jwt_secret"
"""File in the data directory for the key that is made in development."""

_NEXT_JS = ("http://localhost:3000", "http://127.0.0.1:3000")
"""Origins of a Next.js frontend in development."""


def _origins(text: object) -> object:
    """Parse origins such as `https://a.example, capacitor://localhost, https://preview-*.example.com`, or `*`."""
    if not isinstance(text, str):
        return text
    return tuple(origins.parse(each.strip()) for each in text.split(",") if each.strip())


def _rates(text: object) -> object:
    return rates.parse_rates(text) if isinstance(text, str) else text


def _url(text: object, parse: ValidatorFunctionWrapHandler) -> HttpUrl:
    try:
        url: HttpUrl = parse(text)
    except ValueError:
        raise ValueError("must be a URL such as https://app.example.com") from None
    if url.username or url.password or url.query is not None or url.fragment is not None:
        raise ValueError("must be a URL without user, password, query and fragment")
    return url


PlainUrl = Annotated[HttpUrl, WrapValidator(_url)]


class Settings(BaseModel):
    """The service's settings. `load` reads each from the variable of its name."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production"] = "development"
    database_url: SecretStr | None = None
    database_url_direct: SecretStr | None = None
    database_pool_size: int = Field(default=10, ge=1, le=1000)
    database_pool_max_waiting: int = Field(default=200, ge=0)
    database_sharded: bool = False
    database_timeout: float = Field(default=10, ge=0.1)
    daybook_data_dir: Path = Path(".daybook")
    feeds_per_user: int = Field(default=8, ge=1)
    feeds_per_worker: int = Field(default=1000, ge=1)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    metrics_host: str = "127.0.0.1"
    metrics_public: bool = False
    web: bool | None = None
    web_login_url: PlainUrl | None = None
    forwarded_allow_ips: str | None = None
    rate_limit: Annotated[Rates | None, BeforeValidator(_rates)] = None
    root_path: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] | None = None
    jwt_secret: SecretStr | None = None
    jwt_jwks_url: PlainUrl | None = None
    better_auth_url: PlainUrl | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_user_claim: str = "sub"
    jwt_actor_claim: str | None = None
    auditor_claim: str | None = None
    daybook_signing_key: SecretStr | None = None
    cors_origins: Annotated[tuple[str, ...] | None, BeforeValidator(_origins)] = None
    _near: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("jwt_secret")
    @classmethod
    def _fit_to_sign(cls, value: SecretStr | None) -> SecretStr | None:
        if value and (size := len(value.get_secret_value().encode())) < SHORTEST_SECRET:
            raise ValueError(f"must have at least {SHORTEST_SECRET} bytes, and has {size}")
        if value:
            try:
                HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value.get_secret_value())
            except InvalidKeyError:
                raise ValueError(
                    "must be a secret that both sides know, and is a key pair's half or a certificate: an issuer"
                    " publishes its keys, which are read from BETTER_AUTH_URL or JWT_JWKS_URL"
                ) from None
        return value

    @field_validator("better_auth_url")
    @classmethod
    def _not_its_keys(cls, value: HttpUrl | None) -> HttpUrl | None:
        if value and (value.path or "").rstrip("/").endswith("/jwks"):
            raise ValueError("must be where Better Auth runs, without /jwks (or say JWT_JWKS_URL)")
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _addresses(cls, value: str | None) -> str | None:
        """Return the form that uvicorn can match: `10.0.0.7/8` as `10.0.0.0/8`, and `*` alone."""
        if not value:
            return None
        each = [part.strip() for part in value.split(",") if part.strip()]
        if "*" in each:
            return "*"
        try:
            return ",".join(str(ipaddress.ip_network(part, strict=False)) for part in each)
        except ValueError:
            raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas") from None

    @field_validator("root_path")
    @classmethod
    def _prefix(cls, value: str) -> str:
        value = value.rstrip("/")
        if value and not PATH_PREFIX.fullmatch(value):
            raise ValueError("must be a path such as /daybook, of letters, digits, - . _ ~ and /")
        return value

    @model_validator(mode="after")
    def _fit_for_production(self) -> Self:
        wrong = []
        if self.environment == "production":
            if not self.database_url:
                wrong.append("DATABASE_URL: must be set in production (postgresql://…)")
            if not self.jwt_secret and not self.jwks_url:
                wrong.append("BETTER_AUTH_URL, JWT_JWKS_URL or JWT_SECRET (BETTER_AUTH_SECRET): set one in production")
            if self.jwks_url and self.jwks_url.scheme == "http" and not private(self.jwks_url.host or ""):
                name = "JWT_JWKS_URL" if self.jwt_jwks_url else "BETTER_AUTH_URL"
                wrong.append(f"{name}: must be https in production; over http, others could put in their own keys")
            login = self.web_login_url
            if self.serves_web and not login:
                wrong.append("WEB_LOGIN_URL: must be set in production if WEB is true; nobody could sign in")
            if login and login.scheme == "http" and not private(login.host or ""):
                wrong.append("WEB_LOGIN_URL: must be https in production; over http, others could read the tokens")
            if origins.EVERY in self.cors:
                wrong.append("CORS_ORIGINS: must name the origins in production, not *")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def service_url(self) -> str | None:
        """Return the service's database address, a secret; None if unset."""
        return self.database_url.get_secret_value() if self.database_url else None

    @property
    def migration_url(self) -> str | None:
        """Return the address for migrations, a secret: `DATABASE_URL_DIRECT` if set; the other may be a pooler's."""
        return self.database_url_direct.get_secret_value() if self.database_url_direct else self.service_url

    @property
    def serves_web(self) -> bool:
        """Say if the page is served: as set, else in development only."""
        return self.environment == "development" if self.web is None else self.web

    @property
    def log_form(self) -> Literal["console", "json"]:
        """Return the log format: as set, else JSON in production and readable lines in development."""
        return self.log_format or ("json" if self.environment == "production" else "console")

    @property
    def better_auth_origin(self) -> str | None:
        """Return Better Auth's origin: its name in its tokens, and its pages' origin."""
        return origins.of(self.better_auth_url) if self.better_auth_url else None

    @property
    def cors(self) -> tuple[str, ...]:
        """Return the allowed origins of pages; if none are set, Better Auth's and, in development, Next.js's own."""
        if self.cors_origins is not None:
            return self.cors_origins
        frontend = (self.better_auth_origin,) if self.better_auth_origin else ()
        return tuple(dict.fromkeys((*frontend, *_NEXT_JS))) if self.environment == "development" else frontend

    @property
    def jwks_url(self) -> HttpUrl | None:
        """Return the URL of the issuer's keys; None if there is no issuer."""
        if self.jwt_jwks_url or not self.better_auth_url:
            return self.jwt_jwks_url
        base = str(self.better_auth_url).rstrip("/")
        # Better Auth serves at /api/auth of a URL without a path, and at the path itself of one that has one.
        mounted = base if (self.better_auth_url.path or "/").strip("/") else f"{base}/api/auth"
        return HttpUrl(f"{mounted}/jwks")

    @property
    def jwks_issuer(self) -> str | None:
        """Return the required `iss` of the issuer's tokens: as set, else Better Auth's own origin."""
        return self.jwt_issuer or self.better_auth_origin

    @property
    def jwks_audience(self) -> str | None:
        """Return the required `aud` of the issuer's tokens: as set, else Better Auth's own origin."""
        return self.jwt_audience or self.better_auth_origin

    @cached_property
    def signing_secret(self) -> str | None:
        """Return the key of HS256 tokens, a secret; None if only an issuer signs.

        In development, if no key of either kind is set, make one and keep it in the data directory.
        """
        if self.jwt_secret:
            return self.jwt_secret.get_secret_value()
        return None if self.jwks_url else _kept_secret(self.made_data_dir / _KEY_FILE)

    @property
    def makes_secret(self) -> bool:
        """Say whether `signing_secret` would make a key now."""
        made = not (self.jwt_secret or self.jwks_url)
        return made and not os.path.lexists(self.daybook_data_dir / _KEY_FILE)

    def warn_of_near_misses(self) -> None:
        """Log each name that is almost the name of a setting that isn't set."""
        for name, meant in self._near.items():
            _log.warning("misspelt setting, or another program's variable", name=name, setting=meant)

    @property
    def made_data_dir(self) -> Path:
        """Return the data directory; make it if there is none. Raises `BadSettings`."""
        try:
            self.daybook_data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        except FileExistsError:
            raise BadSettings(f"DAYBOOK_DATA_DIR: {self.daybook_data_dir} is no folder; name another one") from None
        except OSError as error:
            raise BadSettings(f"DAYBOOK_DATA_DIR: {self.daybook_data_dir} can't be made: {error.strerror}") from error
        return self.daybook_data_dir


VARIABLES = {**{name.upper(): name for name in Settings.model_fields}, "BETTER_AUTH_SECRET": "jwt_secret"}
"""Variables, each with its setting. Of two for one setting, the first that is set counts."""

_OF_OPENTELEMETRY = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""A variable that OpenTelemetry reads itself."""

_SECURING = frozenset({
    "ENVIRONMENT", "BETTER_AUTH_URL", "JWT_JWKS_URL", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_USER_CLAIM",
    "JWT_ACTOR_CLAIM",
})  # fmt: skip
"""Variables that decide which settings are safe and which tokens are taken. The service would run without them, but
less safely.

Without the others (keys, proxies, origins, `DATABASE_…`), it takes fewer requests, or doesn't start.
"""

_ENV_FILE = Path(".env")
_SECRETS = Path("/run/secrets")
"""Folder in which Docker Compose and Swarm put a container's secrets, each as a file."""


def load() -> Settings:
    """Read the environment, then `.env`, then the container's secrets: the first one that has a setting counts.

    `NAME_FILE` names a file with the value of NAME. An empty value counts as none. A name that is almost a
    setting's, if that one isn't set, is refused if the service would run less safely without it; else
    `warn_of_near_misses` names it. Raises `BadSettings`, which never shows a value, since it may be a secret.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise BadSettings("The folder that this was started in is gone; change to one that is there (cd).") from None
    written = env_file.values(_ENV_FILE)
    named = (given.with_named_files(each, VARIABLES) for each in (written, os.environ))
    values = given.merged(given.secret_files(_SECRETS, VARIABLES), *named)
    found = {VARIABLES[name]: values[name] for name in reversed(VARIABLES) if name in values}
    near = given.near_misses(values, VARIABLES)
    wrong = list(given.spoilt(os.environ, {*VARIABLES, _OF_OPENTELEMETRY}))
    for name, value in written.items():
        if value is None and name.upper() in VARIABLES and VARIABLES[name.upper()] not in found:
            wrong.append(f"{name}: has no value in {_ENV_FILE}; write {name}=value, or remove the line")
    wrong += [
        f"{name}: is no setting; write {meant}, or unset it" for name, meant in near.items() if meant in _SECURING
    ]
    if wrong:
        raise BadSettings("\n".join(wrong))
    settings = _validated(found)
    settings._near.update(near)
    return settings


def _validated(found: Mapping[str, str]) -> Settings:
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0]).upper() if problem["loc"] else ""
            name = {"JWT_SECRET": "JWT_SECRET (or BETTER_AUTH_SECRET)"}.get(name, name)
            lines.append((name and f"{name}: ") + problem["msg"].removeprefix("Value error, "))
        raise BadSettings("\n".join(lines)) from None


def _kept_secret(path: Path) -> str:
    """Return the file's text; if there is none, make a new secret, one for all processes that ask at once."""
    try:
        kept = path.read_text("utf-8")
    except FileNotFoundError:
        kept = _new_secret(path)
    except UnicodeDecodeError:
        kept = ""
    except OSError as error:
        raise BadSettings(f"DAYBOOK_DATA_DIR: the key kept in {path} can't be read: {error.strerror}") from error
    if len(kept.encode()) < SHORTEST_SECRET:
        raise BadSettings(f"JWT_SECRET: the one kept in {path} is too short, or no text; remove that file")
    return kept


def _new_secret(path: Path) -> str:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        try:
            draft.write_text(secrets.token_urlsafe(48))
            os.link(draft, path)  # unlike rename, it fails if another process was first
        except FileExistsError:
            pass
        else:
            _log.warning(
                "a development key was made; tokens signed with another one don't hold", path=str(path.resolve())
            )
        finally:
            draft.unlink()
        return path.read_text("utf-8")
    except OSError as error:
        raise BadSettings(
            f"DAYBOOK_DATA_DIR: no key can be kept in {path.parent}: {error.strerror}; "
            "name another folder, or set JWT_SECRET"
        ) from error
