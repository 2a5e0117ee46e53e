"""A comparison of the service with a peer, with its own routes without a database, and with pgbench: `make bench`.

All candidates run on one Postgres. wrk loads them by turns, A B A B, with the same tokens and bodies, and a ratio is
that of neighbouring rounds. The last table compares the ratios with their bounds. One response of each kind is checked
before the rounds. The run fails if a response in a round has an error status or a wrong length.
"""

import argparse
import asyncio
import os
import re
import secrets
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from bench import pgbench, pooler, wrk
from bench.bounds import POOLER_LINE, Ratios, append_line, cpu_line, peer_line, table
from bench.kinds import CREATE, KINDS, MIXED, Kind
from bench.load import new_database
from bench.load_generator import POOL, SETUPS, WARM_UP, Candidate, LoadGenerator, Setup, peer, plural
from bench.memory import resident
from bench.people import EVENTS, LARGE, LARGE_USERS, USERS, prepare
from bench.service import serving
from db.dsn import connect_arguments
from db.embedded import running
from db.migrate import migrate


def _ratios(ours: Sequence[wrk.Load], theirs: Sequence[wrk.Load]) -> list[float]:
    return [a.rate / b.rate for a, b in zip(ours, theirs, strict=True)]


def _median(loads: Sequence[wrk.Load]) -> str:
    rates = [load.rate for load in loads]
    spread = (max(rates) - min(rates)) / statistics.median(rates)
    latencies = [statistics.median(getattr(load, name) / 1000 for load in loads) for name in ("p50", "p99")]
    cpu = statistics.median(load.cpu for load in loads) * 1e6
    return f"{statistics.median(rates):,.0f} | ±{spread / 2:.0%} | {latencies[0]:.1f} | {latencies[1]:.1f} | {cpu:,.0f}"


_HEAD = """
| | ours/s | spread | p50 | p99 | CPU | {other}/s | spread | p50 | p99 | CPU | **ratio** | of the rounds |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def _row(name: str, ours: Sequence[wrk.Load], theirs: Sequence[wrk.Load]) -> str:
    ratios = _ratios(ours, theirs)
    return (
        f"| {name} | {_median(ours)} | {_median(theirs)} | "
        f"**{statistics.median(ratios):.2f}** | {min(ratios):.2f} to {max(ratios):.2f} |"
    )


def _say(line: str) -> None:
    print(line, flush=True)


async def compare(
    generator: LoadGenerator,
    candidates: Mapping[str, Candidate],
    setups: Sequence[Setup],
    kinds: Sequence[Kind],
    ratios: Ratios,
) -> None:
    """Print the figures of the service beside the peer's, for each setup and kind of request, and keep the ratios."""
    for setup in setups:
        ours, theirs = candidates[f"ours {setup.workers}"], candidates[f"peer {setup.workers}"]
        _say(f"\n{setup}:\n{_HEAD.format(other='peer')}")
        for kind in kinds:
            if setup.one_user and kind.status == 304:
                continue  # the one user's list was changed by the kinds before
            pair = (ours, theirs) if kind.peer else (ours,)
            found = await generator.run(kind, setup, pair)
            if kind.peer:
                loads = found[ours.name], found[theirs.name]
                _say(_row(kind.name, *loads))
                ratios[peer_line(kind.name, setup)] = _ratios(*loads)
                ratios[cpu_line(kind.name, setup)] = [a.cpu / b.cpu for a, b in zip(*loads, strict=True)]
            else:
                _say(f"| {kind.name} | {_median(found[ours.name])} | | | | | | | |")


async def ceilings(generator: LoadGenerator, candidates: Mapping[str, Candidate], setups: Sequence[Setup]) -> None:
    """Print the rate of creations beside that of the same route without its database."""
    _say(_HEAD.format(other="no database"))
    for setup in setups:
        pair = (candidates["ours 1"], candidates["no database"])
        found = await generator.run(CREATE, setup, pair)
        _say(_row(f"create, {setup}", *(found[each.name] for each in pair)))


async def unchanged(generator: LoadGenerator, candidates: Mapping[str, Candidate], setups: Sequence[Setup]) -> None:
    """Print the rate of 304s for a list that hasn't changed beside that of the whole list."""
    _say(_HEAD.format(other="its 200").replace("ours", "304"))
    lists = [kind for kind in KINDS if kind.large]
    for setup in setups:
        whole, same = [(await generator.run(kind, setup, [candidates["ours 1"]]))["ours 1"] for kind in lists]
        _say(_row(f"list of 1,000, {setup}", same, whole))


async def mixed(generator: LoadGenerator, candidates: Mapping[str, Candidate]) -> None:
    """Print the service's rate and latencies under a mix of reads and writes, with one worker and with two."""
    _say(
        "\n| 100 connections, 80 % reads | a second | spread | p50 | p99 | CPU | **p99 / p50** | longest |"
        "\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for workers in (1, 2):
        ours = candidates[f"ours {workers}"]
        loads = (await generator.run(MIXED, Setup(100, workers), [ours]))[ours.name]
        ratio = statistics.median(load.p99 / load.p50 for load in loads)
        longest = max(load.longest for load in loads) / 1000
        _say(f"| {plural(workers, 'worker')} | {_median(loads)} | **{ratio:.1f}** | {longest:.0f} |")


async def through_pooler(
    generator: LoadGenerator, candidates: Mapping[str, Candidate], folder: Path, ratios: Ratios
) -> None:
    """Print the rate of creations through PgBouncer beside the direct one. PgBouncer's processor time isn't counted."""
    if pooler.PGBOUNCER is None:
        _say("\nPgBouncer isn't installed: creations through it aren't measured.")
        return
    direct = candidates["ours 1"]
    with (
        pooler.pooled(direct.dsn, folder, POOL) as dsn,
        serving(dsn, folder, secret=direct.service.secret) as service,
    ):
        pair = (Candidate("through PgBouncer", service, direct.dsn), direct)
        found = await generator.run(CREATE, Setup(32), pair)
    loads = [found[each.name] for each in pair]
    _say(_HEAD.format(other="direct").replace("ours", "through PgBouncer"))
    _say(_row(f"create, {Setup(32)}", *loads))
    ratios[POOLER_LINE] = _ratios(*loads)


async def database(
    generator: LoadGenerator, candidate: Candidate, ratios: Ratios, numbers_of_connections: Sequence[int] = (1, 32)
) -> None:
    """Print the rates of appends, plain INSERTs and lists in pgbench: the upper limits that Postgres sets."""
    connection = await asyncpg.connect(**connect_arguments(candidate.dsn))
    await connection.execute(pgbench.PLAIN_SEQUENCE)
    await connection.close()
    append, insert = "append, a creation", "plain INSERT of the same event"
    scripts = {
        append: pgbench.append(),
        insert: pgbench.plain_insert(),
        "the append's rows in one statement": pgbench.rows(),
        "list, page of 50": pgbench.page(),
    }
    _say("\n| pgbench | a second | of the rounds |\n|---|--:|--:|")
    for connections in numbers_of_connections:
        rates: dict[str, list[float]] = {name: [] for name in scripts}
        for number in range(generator.rounds + 1):
            for name, text in scripts.items():
                script = generator.folder / "pgbench.sql"
                script.write_text(text)
                rate = pgbench.rate(candidate.dsn, script, connections, generator.seconds if number else WARM_UP)
                rates[name] += [rate] if number else []
        for name, found in rates.items():
            _say(
                f"| {name}, {plural(connections, 'connection')} | {statistics.median(found):,.0f} | "
                f"{min(found):,.0f} to {max(found):,.0f} |"
            )
        ratios[append_line(connections)] = [a / b for a, b in zip(rates[append], rates[insert], strict=True)]


PARTS = ("peer", "ceiling", "unchanged", "mixed", "pooler", "database")


async def _all(arguments: argparse.Namespace, folder: Path, dsns: Sequence[str], stack: ExitStack) -> None:
    secret = secrets.token_urlsafe(48)
    candidates: dict[str, Candidate] = {}

    def subfolder(name: str) -> Path:
        (folder / name.replace(" ", "-")).mkdir()
        return folder / name.replace(" ", "-")

    for workers in sorted({setup.workers for setup in arguments.setups} | {1, 2}):
        name = f"peer {workers}"
        service = stack.enter_context(peer(dsns[1], subfolder(name), secret, workers))
        candidates[name] = Candidate(name, service, dsns[1])
        name = f"ours {workers}"
        service = stack.enter_context(serving(dsns[0], subfolder(name), secret=secret, workers=workers))
        candidates[name] = Candidate(name, service, dsns[0])
    name = "no database"
    service = stack.enter_context(serving(dsns[0], subfolder(name), secret=secret, module="bench.ceiling"))
    candidates[name] = Candidate(name, service, dsns[0])
    idle = resident(candidates["ours 1"].service.pid) / 1e6
    people, about = await prepare(dsns, secret)
    postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    generator = LoadGenerator(
        folder, secret, people, postmaster=postmaster, rounds=arguments.rounds, seconds=arguments.seconds
    )
    ratios: Ratios = {}
    _say(
        f"{about}\n{plural(arguments.rounds, 'round')} of {arguments.seconds:g} s by turns, after {WARM_UP:g} s each; "
        f"pools of {POOL} connections; {USERS} users with {EVENTS} events, {LARGE_USERS} with {LARGE:,} tasks. "
        f"Medians; latencies in ms; CPU, of service and Postgres, in µs a request. "
        f"Before its first request, a worker takes {idle:.0f} MB."
    )
    by_connections = [setup for setup in arguments.setups if setup.workers == 1]
    for part in arguments.parts:
        match part:
            case "peer":
                await compare(generator, candidates, arguments.setups, arguments.only, ratios)
            case "ceiling":
                await ceilings(generator, candidates, by_connections)
            case "unchanged":
                await unchanged(generator, candidates, [each for each in by_connections if not each.one_user])
            case "mixed":
                await mixed(generator, candidates)
            case "pooler":
                await through_pooler(generator, candidates, subfolder("through PgBouncer"), ratios)
            case "database":
                await database(generator, candidates["ours 1"], ratios)
    _say(f"\n{table(ratios)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=_rounds, default=5, help="rounds of each measurement (%(default)s)")
    parser.add_argument(
        "--seconds", type=int, default=3, help="length of a round, whole seconds as wrk takes them (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="run one round of a second each, to try the tool")
    parser.add_argument(
        "--only", type=_kinds, default=KINDS, help="kinds of requests whose name matches this regular expression"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="%(choices)s (all)")
    parser.add_argument("--setups", nargs="+", type=_setup, default=SETUPS, help="numbers of setups, from 0 (all)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    os.environ.pop("DATABASE_URL", None)
    try:
        wrk.program()
        _run(arguments)
    except wrk.Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    """Start Postgres, and run the parts that were chosen. Raises `wrk.Failed`."""
    enough = {"max_connections": "200"}  # all services keep theirs while pgbench has 32 more
    with (
        tempfile.TemporaryDirectory(prefix="daybook-bench-") as name,
        running(Path(name), settings=enough) as dsn,
        ExitStack() as stack,
    ):
        dsns = [asyncio.run(new_database(dsn, name)) for name in ("ours", "peer")]
        migrate(dsns[0])
        asyncio.run(_all(arguments, Path(name), dsns, stack))


def _rounds(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("there must be at least one")
    return number


def _setup(text: str) -> Setup:
    if not text.isdecimal() or int(text) >= len(SETUPS):
        there = "; ".join(f"{number}: {setup}" for number, setup in enumerate(SETUPS))
        raise argparse.ArgumentTypeError(f"there is no {text!r}, but {there}")
    return SETUPS[int(text)]


def _kinds(pattern: str) -> Sequence[Kind]:
    found = [kind for kind in KINDS if re.search(pattern, kind.name)]
    if not found:
        raise argparse.ArgumentTypeError(f"no kind has {pattern!r}: there are {', '.join(each.name for each in KINDS)}")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
