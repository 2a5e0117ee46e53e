"""Metrics for Prometheus (docs/guides/operate.md explains them)."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from config.errors import BadSettings
from config.logs import once
from telemetry.worker_metrics import WORKERS_FOLDER, WorkersMetrics

_log = structlog.get_logger(__name__)

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # The library would map files of that folder into memory, and a full disk would end the process by SIGBUS.
    raise BadSettings(
        "PROMETHEUS_MULTIPROC_DIR: unset it; `daybook serve --workers` adds its workers' metrics up by itself"
    )

REQUESTS = Histogram(
    "daybook_http_request_duration_seconds",
    "From a request's head to the end of its answer.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
COMMANDS = Counter(
    "daybook_commands_total", "Writes that were asked for, by what came of them.", ("command", "outcome")
)
CONFLICTS = Counter("daybook_append_conflicts_total", "Appends that found another writer, or a rebuild, first.")
POOL_SIZE = Gauge("daybook_pool_size", "Connections that there may be.")
POOL_IN_USE = Gauge("daybook_pool_in_use", "Connections in use.")
POOL_WAITING = Gauge("daybook_pool_waiting", "Requests that wait for a connection.")
DATABASE_UP = Gauge("daybook_database_up", "1 if the database can be reached and takes writes, else 0.")
DATABASE_UP.set(1)
DATABASE_READ_ONLY = Gauge("daybook_database_read_only", "1 while the database takes no writes.")
REFUSALS = Counter("daybook_database_refusals_total", "Requests refused without asking the database.", ("reason",))
DATABASE_ERRORS = Counter(
    "daybook_database_errors_total", "Requests answered 503 for an error of the database's.", ("sqlstate",)
)
DATABASE_ERRORS.labels("53100")  # a full disk: 0 from the start, so that an alert sees the first one

FEEDS_OPEN = Gauge("daybook_feeds_open", "Feeds that are being sent.")
FEED_EVENTS = Counter("daybook_feed_events_total", "Events sent by feeds.")
FEED_LAG = Histogram(
    "daybook_feed_lag_seconds",
    "From an event's time to its sending, of events that happened while the feed was open.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

VERIFIED = "verify.json"
"""File in the data directory with the last results of `daybook verify`, for all users (`all`) and for a `sample`."""


_COMBINED = {DATABASE_UP._name: min, DATABASE_READ_ONLY._name: max}
"""Functions that combine several workers' gauges; the other metrics are summed."""


def all_metrics(folder: Path) -> CollectorRegistry:
    """Return a registry of the metrics of this process, or of all workers if there are several.

    It includes the last results of `daybook verify`, as stored in `folder`.
    """
    registry = CollectorRegistry(auto_describe=False)
    workers = os.environ.get(WORKERS_FOLDER)
    registry.register(WorkersMetrics(Path(workers), combined=_COMBINED) if workers else REGISTRY)
    registry.register(_Verified(folder / VERIFIED))
    return registry


class _Verified(Collector):
    """Collector of the last results of `daybook verify`; empty if it was never run here."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def collect(self) -> Iterable[Metric]:
        found = _results(self._file)
        if not found:
            return
        for name, documentation in _OF_VERIFY.items():
            family = GaugeMetricFamily(f"daybook_verify_{name}", documentation, labels=["scope"])
            for scope, values in found.items():
                family.add_metric([scope], values[name])
            yield family


_OF_VERIFY = {
    "last_timestamp_seconds": "When `daybook verify` ran last.",
    "complete": "1 where it came to its end.",
    "users": "Users that it checked.",
    "mismatches": "What isn't as it should be.",
}


def _results(file: Path) -> dict[str, dict[str, float]]:
    """Read the results that `note_verified` stored, by scope. A damaged or strange file counts as none."""
    try:
        found = json.loads(file.read_text())
        return {scope: {name: float(values[name]) for name in _OF_VERIFY} for scope, values in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        once(
            _log, "warning", "the last result of verify can't be read; run it again", file=str(file), error=repr(error)
        )
        return {}


def note_verified(folder: Path, scope: str, *, complete: bool, users: int, mismatches: int) -> None:
    """Store a result of `daybook verify` for `all_metrics`. Raises `OSError`."""
    file = folder / VERIFIED
    found = _results(file)
    values = {"last_timestamp_seconds": time.time(), "complete": complete, "users": users, "mismatches": mismatches}
    draft = file.with_name(f"{VERIFIED}.{os.getpid()}")
    draft.write_text(json.dumps({**found, scope: values}))
    draft.replace(file)
