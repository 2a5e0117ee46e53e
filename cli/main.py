"""The `daybook` command."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from cli.parallel import Choice
    from cli.progress import Results
    from cli.worker import Job

from cli.exit_codes import MismatchFound
from cli.output import note, say
from cli.tokens import sign
from config import logs
from config.errors import BadSettings, CannotRun
from config.given import NO_TEXT, is_text
from config.settings import USER_ID, Settings, load
from db.embedded import database
from db.reach import reaching
from events.task import LONGEST_REASON
from telemetry.metrics import note_verified

if not (os.environ.get("TERMINAL_WIDTH") or "0").isdecimal():  # Typer reads it, and takes it for a number
    raise BadSettings("TERMINAL_WIDTH: is no number; unset it")

app = typer.Typer(
    name="daybook",
    help="A multi-user task backend that keeps a log. Settings come from the environment or .env (see .env.example).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        say(installed_version("daybook"))
        raise typer.Exit


@app.callback()
def daybook(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Daybook."""


def _ready() -> Settings:
    settings = load()
    logs.configure(settings.log_level, settings.log_form)
    settings.warn_of_near_misses()
    return settings


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when the code changes.")] = False,
    migrate: Annotated[bool, typer.Option(help="Bring the schema up to date first.")] = True,
) -> None:
    """Run the API, on an embedded Postgres where DATABASE_URL is unset."""
    from cli.serve import serve

    serve(_ready(), host=host, port=port, workers=workers, reload=reload, migrate_first=migrate)


@app.command("migrate")
def migrate_command(
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Partitions of each table, of a database that has none.", show_default="4"),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing: only say if all is done.")] = False,
) -> None:
    """Bring the schema up to date (DATABASE_URL_DIRECT, else DATABASE_URL, else the embedded Postgres).

    With DATABASE_SHARDED=true, distribute the tables over a Citus cluster as well.
    """
    import asyncio

    from db.distribute import check_distribution
    from db.indexes import NotBuilt, check_indexes
    from db.migrate import migrate
    from db.public_rights import check_public_rights, revoke_from_public
    from db.roles import grant_service_role
    from db.schema import check_schema

    settings = _ready()
    sharded = settings.database_sharded
    if partitions is not None and (check or sharded):
        raise typer.BadParameter("--partitions goes neither with --check nor with DATABASE_SHARDED=true")
    applied, made, revoked, not_built = [], False, False, None
    with database(settings.migration_url, settings.daybook_data_dir) as dsn, reaching():
        if check:
            asyncio.run(check_schema(dsn))
            asyncio.run(check_indexes(dsn))
        else:
            try:
                applied = migrate(dsn, partitions=partitions, sharded=sharded)
            except NotBuilt as error:  # all else is done
                not_built = error
            revoked = asyncio.run(revoke_from_public(dsn))
            made = asyncio.run(grant_service_role(dsn, settings.service_url or dsn))
        asyncio.run(check_public_rights(dsn))
        distributed = asyncio.run(check_distribution(dsn)) if sharded else None
    say(f"Applied {', '.join(applied)}." if applied else "The schema is up to date.")
    if distributed:
        say(distributed)
    if revoked:
        say("Took the right to write to the log from everybody: a restore without privileges had given it back.")
    if made:
        say("Made the role that DATABASE_URL names: it may append to the log, and erase content on record.")
    if not_built:
        raise not_built


def _ttl(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if not match:
        raise typer.BadParameter("write a number and s, m, h or d, such as 30m or 1h")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def _user(text: str | None) -> str | None:
    if text is not None and not is_text(text):
        raise typer.BadParameter(f"it {NO_TEXT}")
    if text is not None and not USER_ID.fullmatch(text):
        raise typer.BadParameter("a user has 1 to 255 characters and no slash")
    return text


def _line(text: str, longest: int) -> str:
    if not (text.strip() and text.isprintable() and len(text) <= longest):
        raise typer.BadParameter(f"it has 1 to {longest} characters, on one line")
    return text


def _reason(text: str) -> str:
    return _line(text, LONGEST_REASON)


def _actor(text: str) -> str:
    return _line(text, 255)


@app.command()
def token(
    user: Annotated[str, typer.Argument(callback=_user, metavar="USER", help="The user the token speaks for.")],
    ttl: Annotated[timedelta, typer.Option(parser=_ttl, metavar="TIME", help="How long it holds: 30m, 1h, 7d.")] = "1h",  # type: ignore[assignment] # typer parses the default
) -> None:
    """Print a token for USER, signed with JWT_SECRET or, in development, the secret kept in the data directory."""
    settings = _ready()
    makes_key = settings.makes_secret
    said = sign(settings, user, until=datetime.now(UTC) + ttl)
    if makes_key:
        note(
            f"daybook: There was no key in {settings.daybook_data_dir.resolve()}, so one was made. A service takes\n"
            "this token if it runs on that folder. For one that runs on another, set DAYBOOK_DATA_DIR to that one."
        )
    say(said)


OnlyUser = Annotated[str | None, typer.Option(callback=_user, metavar="USER", help="Only this user.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="How many processes share the work.", show_default="one for each core")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("rebuild")
def rebuild_command(
    user: OnlyUser = None,
    workers: Workers = None,
    start_after: Annotated[
        str | None,
        typer.Option(
            callback=_user, metavar="USER", help="Go on behind this user, as a rebuild that was stopped says."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make every row of `tasks` follow from the log again, while the service runs. Only rows that differ are written.

    If a user's log isn't as it was written, their rows are left as they are, and the damage is named. `daybook verify`
    shows beforehand which rows would be written.

    Exit status: 0 all rows are right now; 1 somebody's log is damaged; 2 it couldn't run, or not to its end.
    """
    from cli.parallel import Choice

    _exclusive({"--user": user, "--start-after": start_after})
    _go_through("rebuild", Choice(user=user, after=start_after or ""), workers, as_json=as_json)


@app.command("verify")
def verify_command(
    user: OnlyUser = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only so many users, drawn by lot: for a cron job.")
    ] = None,
    workers: Workers = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Not the database, but an audit log as NDJSON, whole; - reads stdin. Needs no settings.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="What /audit/head answered once: shows too if the export was rewritten or cut."
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The head that the export goes on from (?after=…), where it isn't whole."),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="What /.well-known/jwks.json answered: the head must be signed with a key of it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that the log is as it was written, and that `tasks` follows from it; name each mismatch.

    Changes nothing, holds nobody up, and needs no right but to read. With --export, check that no event of an export
    was changed, removed, added or reordered, and name the first that was.

    Exit status: 0 clean; 1 a mismatch was found; 2 it couldn't run, or not to its end.
    """
    if export is None:
        from cli.parallel import Choice

        if (head, after, keys) != (None, None, None):
            raise typer.BadParameter("--head, --after and --keys go with --export")
        _exclusive({"--user": user, "--sample": sample})
        _go_through("verify", Choice(user=user, sample=sample), workers, as_json=as_json)
    else:
        _exclusive({"--export": export, "--user": user, "--sample": sample, "--workers": workers})
        if keys is not None and head is None and after is None:
            raise typer.BadParameter("--keys goes with --head or --after: it says who signed them")
        _verify_export(export, head, after, keys, as_json=as_json)


@app.command("erase")
def erase_command(
    user: Annotated[str, typer.Option(callback=_user, metavar="USER", help="Whose content.")],
    reason: Annotated[str, typer.Option(callback=_reason, help="Why, for the log; nothing personal: it stays.")],
    task: Annotated[UUID | None, typer.Option(help="Only this task's, also if it wasn't deleted.")] = None,
    actor: Annotated[str, typer.Option(callback=_actor, help="Who is on record as having done it.")] = "operator",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Erase the content of all of a user's events, or of one task's, for good, while the service runs.

    The log keeps that they happened, and still verifies. Run it again to go on with an erasure that was interrupted.

    Exit status: 0 it is erased; 2 it couldn't run, or not to its end.
    """
    import asyncio

    from cli.erase import confirm, erase_content

    settings = _ready()
    _require_database(settings, settings.service_url)
    if not yes:
        confirm(user, task)
    with database(settings.service_url, settings.daybook_data_dir) as dsn, reaching():
        sharded = settings.database_sharded
        say(asyncio.run(erase_content(dsn, user, task, reason=reason, actor=actor, sharded=sharded)))
    note(
        "daybook: Backups, exports, replicas and the write-ahead log have copies until they expire, and the data\n"
        "files until their space is written over: docs/guides/erasure.md says what to do about these."
    )


def _exclusive(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} don't go together")


def _go_through(job: "Job", choice: "Choice", workers: int | None, *, as_json: bool) -> None:
    import asyncio

    import asyncpg

    from cli.parallel import CutShort, go_through
    from cli.progress import Results

    settings = _ready()
    url = settings.migration_url if job == "rebuild" else settings.service_url  # the service may not write rows itself
    _require_database(settings, url)
    results = Results(job, as_json=as_json)
    cut_short: str | None = None
    with database(url, settings.daybook_data_dir) as dsn, reaching():
        try:
            choice = replace(choice, sharded=settings.database_sharded)
            asyncio.run(go_through(dsn, job, choice, workers=workers or _cores(), report=results))
        except CutShort as error:
            cut_short = f"{error}\nWhat was finished is right. {_to_go_on(job, choice, error.after)}"
        except asyncpg.UndefinedTableError:
            raise CannotRun("The database has no schema of Daybook's: run `daybook migrate` first.") from None
        except asyncpg.PostgresError as error:
            raise CannotRun(str(error)) from error
    if choice.user is not None and results.nothing and not cut_short:
        cut_short = f"There is nothing of a user {choice.user!r}: no event, no task."
    results.end(cut_short=cut_short)
    if job == "verify" and choice.user is None:
        _keep(settings, "all" if choice.sample is None else "sample", results, complete=cut_short is None)
    if cut_short:
        raise CannotRun(cut_short)
    if results.mismatches:
        raise MismatchFound


def _require_database(settings: Settings, url: str | None) -> None:
    folder = settings.daybook_data_dir.resolve()
    if not url and not os.path.exists(folder / "postgres"):  # noqa: PTH110 - also if we may not look there
        raise CannotRun(f"There is no database: DATABASE_URL isn't set, and none is found under {folder}.")


def _keep(settings: Settings, scope: str, results: "Results", *, complete: bool) -> None:
    """Store the result for the service's metrics. A failure is only noted: it is no reason to fail."""
    try:
        note_verified(
            settings.made_data_dir, scope, complete=complete, users=results.users, mismatches=results.mismatches
        )
    except (OSError, BadSettings) as error:
        note(f"daybook: for the metrics, the result couldn't be kept in DAYBOOK_DATA_DIR: {error}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _to_go_on(job: "Job", choice: "Choice", after: str) -> str:
    if job == "verify" or choice.user or not after:
        return "Run it again."
    return f"To go on: daybook rebuild --start-after {shlex.quote(after)}"


def _verify_export(export: str, head: str | None, after: str | None, keys: str | None, *, as_json: bool) -> None:
    from cli.verify import for_machines, for_people, verify_file

    verified = verify_file(export, head=head, after=after, keys=keys)
    say(for_machines(verified) if as_json else for_people(verified))
    if verified.report.mismatch:
        raise MismatchFound
