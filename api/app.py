"""The app factory."""

import gc
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from api import documentation, openapi, web
from api.auth.jwks import open_jwks
from api.auth.verifier import Expected, Verifier
from api.cors import Cors
from api.dependencies import State
from api.error_handlers import handle_errors
from api.large_bodies import LargeBodies
from api.middleware import (
    BehindProxies,
    CatchAll,
    HeadRequests,
    RequestContext,
    SecurityHeaders,
    Slashes,
    TrustedProxies,
)
from api.rate_limits import Buckets, Limits, RateLimiting
from api.routers import accesses, audit, batch, erasure, feed, health, keys, restore, sync, tasks, undo
from api.routers.metrics import scraping
from api.server.startup import check_integrity, check_server, told
from api.server.supervision import ended_with_its_supervisor
from api.user_turns import UserTurns
from config import log_writer, logs
from config.errors import BadSettings, CannotRun
from config.origins import Origins
from config.rates import Rates
from config.settings import Settings, load
from db.embedded import database
from db.long_reads import Scans
from db.pool import open_pool
from db.reach import reaching
from events.signed_head import HeadSigner, NoSigningKey
from events.store.event_store import EventStore
from queries.feed import Feeds
from telemetry.worker_metrics import snapshots_written

_log = structlog.get_logger(__name__)

_ANSWERING = 0.05
"""Share of DATABASE_TIMEOUT that is kept for the answer, so that the client has it in time if this process is busy."""

_COLLECTIONS = 5_000, 3, 10
"""New objects after which garbage is looked for among them (Python's default is 700); as `gc.set_threshold` takes them.

Three such steps together look at 15,000 objects, which takes 5 ms at most.
"""

_DESCRIPTION = """
Tasks per user, and a log of everything that happened to them.

Authenticate with `Authorization: Bearer <JWT>`; the path's user must be the token's. In development, `daybook token
demo` prints a token for the user `demo`. Errors are problem details
(RFC 9457), and `detail` is always a string. HEAD is answered wherever GET is, with the same headers.
"""


@contextmanager
def _limits(settings: Settings, rates: Rates) -> Iterator[Limits]:
    path = settings.made_data_dir / "rate_limits"
    try:
        buckets = Buckets(path, longest=rates.longest)
    except OSError as error:
        raise BadSettings(f"DAYBOOK_DATA_DIR: {path} can't be made: {error.strerror}; RATE_LIMIT needs it") from error
    with closing(buckets):
        yield Limits(rates, buckets)


def _head_signer(settings: Settings) -> HeadSigner | None:
    if settings.daybook_signing_key is None:
        return None
    try:
        return HeadSigner(settings.daybook_signing_key.get_secret_value())
    except NoSigningKey as error:
        raise BadSettings(f"DAYBOOK_SIGNING_KEY: {error}") from None


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the service, for one process. Settings come from the environment if none are given.

    The database must be migrated (`daybook migrate`). Raise `config.errors.BadSettings` if settings are invalid.
    """
    settings = settings or load()
    logs.configure(settings.log_level, settings.log_form)
    origins = Origins(settings.cors)
    signer = _head_signer(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            stack.callback(log_writer.flush)  # runs last: a worker then ends by the signal that stopped it
            stack.enter_context(ended_with_its_supervisor())
            stack.enter_context(snapshots_written())
            dsn = stack.enter_context(database(settings.service_url, settings.daybook_data_dir))
            opening = open_pool(
                dsn,
                size=settings.database_pool_size,
                max_waiting=settings.database_pool_max_waiting,
                timeout=settings.database_timeout * (1 - _ANSWERING),
                sharded=settings.database_sharded,
            )
            with reaching():
                pool = await stack.enter_async_context(opening)
            await check_integrity(pool)
            if settings.environment == "production":
                await check_server(pool)
            jwks_url = str(settings.jwks_url) if settings.jwks_url else None
            verifier = Verifier(
                secret=settings.signing_secret,
                of_secret=Expected(settings.jwt_issuer, settings.jwt_audience),
                keys=await stack.enter_async_context(open_jwks(jwks_url)) if jwks_url else None,
                of_keys=Expected(settings.jwks_issuer, settings.jwks_audience),
                user_claim=settings.jwt_user_claim,
                actor_claim=settings.jwt_actor_claim,
                auditor_claim=settings.auditor_claim,
            )
            _log.info(
                "tokens taken",
                secret=settings.signing_secret is not None,
                jwks=jwks_url,
                issuer=settings.jwks_issuer,
                audience=settings.jwks_audience,
                origins=settings.cors,
            )
            if jwks_url and not settings.jwks_audience:
                _log.warning("JWT_AUDIENCE isn't set: tokens that the issuer made for other services are taken too")
            limits = stack.enter_context(_limits(settings, settings.rate_limit)) if settings.rate_limit else None
            store = EventStore(pool)
            yield State(
                pool=pool,
                store=store,
                feeds=Feeds(store, most=settings.feeds_per_worker, most_of_user=settings.feeds_per_user),
                scans=Scans(pool),
                verifier=verifier,
                limits=limits,
                head_signer=signer,
                readiness=health.Readiness(pool),
                turns=UserTurns(timeout=pool.timeout),
                large_bodies=LargeBodies(timeout=pool.timeout),
                origins=origins,
                trusted_proxies=TrustedProxies(settings.forwarded_allow_ips or ""),
            )

    # OTEL_EXPORTER_OTLP_ENDPOINT names a collector. If no OTEL_ variable is set, FastAPI needn't ask at each request.
    traced = any(name.startswith("OTEL_") for name in os.environ)
    app = FastAPI(
        title="Daybook",
        version=version("daybook"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry={"auto_configure": traced, "tracing": traced, "metrics": traced, "logs": traced},
        docs_url=None,
        redoc_url=None,
    )
    app.router.lifespan = told(app.router.lifespan)  # type: ignore[method-assign, assignment] # Starlette has no hook
    handle_errors(app)
    openapi.serve_document(app)
    documentation.serve_page(app)
    if settings.serves_web:
        web.serve_web(app, settings)
    # Add the routes themselves: an included router would look for the route twice. They precede the documentation's.
    app.router.routes[:0] = [
        route
        for each in (tasks, sync, batch, undo, restore, erasure, feed, audit, accesses, keys, health)
        for route in each.router.routes
    ]
    if settings.metrics_public:
        app.include_router(scraping(settings.daybook_data_dir))
    app.add_middleware(HeadRequests)  # innermost
    app.add_middleware(CatchAll)
    if settings.rate_limit:
        app.add_middleware(RateLimiting)  # within BehindProxies, which tells the client's address
    if settings.forwarded_allow_ips or settings.root_path:
        trusted = settings.forwarded_allow_ips or ""
        app.add_middleware(BehindProxies, trusted_hosts=trusted, root_path=settings.root_path)
    app.add_middleware(Slashes)  # outside of BehindProxies: its prefix may follow two slashes
    app.add_middleware(Cors, origins=origins)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestContext)  # outermost
    return app


def app_of_a_process() -> FastAPI:
    """Make the service, for a process of its own. If it can't run, raise `CannotRun`; in a worker, exit."""
    try:
        app = create_app()
    except CannotRun as error:
        if multiprocessing.parent_process() is None:
            raise
        print(f"daybook: {error}", file=sys.stderr)  # noqa: T201 - the settings of the log may be the bad ones
        sys.exit(STARTUP_FAILURE)  # tells the supervisor that another worker would fail too
    # The objects that exist by now stay. A garbage collection of them would stop the service for 0.1 s each time.
    gc.collect()
    gc.freeze()
    # Whole requests leave no cycles (tests/api/test_garbage.py), and those that end early few. So look seldom for them.
    gc.set_threshold(*_COLLECTIONS)
    return app
