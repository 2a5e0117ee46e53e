"""Metrics of several workers: each writes its own to a file every second, and a scrape adds them up.

The library's own way, memory-mapped files, ends a worker by SIGBUS if the disk is full. Here a full disk costs metrics,
and nothing else.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog
from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

WORKERS_FOLDER = "DAYBOOK_METRICS_FOLDER"
"""Variable by which `daybook serve` tells its workers the folder to write to. They make it if it isn't there."""

_SECONDS = 1
"""Seconds between two snapshots."""
_STALE_SECONDS = 10
"""Age in seconds at which a snapshot's gauges are left out: its worker lives, but can't write."""
_OF_ONE_PROCESS = ("process_", "python_")

_log = structlog.get_logger(__name__)


@contextmanager
def snapshots_written() -> Iterator[None]:
    """Write snapshots while the block runs, and one at its end, if this is one of several workers; else do nothing."""
    folder = os.environ.get(WORKERS_FOLDER)
    if folder is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_write_snapshots, args=(Path(folder), ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_SECONDS)


def _write_snapshots(folder: Path, ended: threading.Event) -> None:
    failed, last = False, False
    while True:
        try:
            write_snapshot(folder)
            failed = False
        except OSError as error:
            if not failed:
                _log.warning("this worker's metrics can't be written: they are those of before", error=str(error))
            failed = True
        if last:
            return
        last = ended.wait(_SECONDS)


def write_snapshot(folder: Path) -> None:
    """Write this process's metrics, all at once. Raises `OSError`."""
    families = [
        (family.name, family.documentation, family.type, [sample[:3] for sample in family.samples])
        for family in REGISTRY.collect()
        if not family.name.startswith(_OF_ONE_PROCESS)
    ]
    folder.mkdir(mode=0o700, exist_ok=True)
    draft = folder / f"{os.getpid()}.draft"
    draft.write_bytes(orjson.dumps(families))
    draft.replace(draft.with_suffix(".json"))


class WorkersMetrics(Collector):
    """Collector of the sums over all workers; metrics in `combined` use the function there instead of the sum.

    A worker's counters stay after its end; its gauges don't.
    """

    def __init__(self, folder: Path, *, combined: Mapping[str, Callable[[Iterable[float]], float]]) -> None:
        self._folder = folder
        self._combined = combined

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, frozenset[tuple[str, str]]], float]] = defaultdict(dict)
        for name, documentation, kind, samples in self._families():
            metrics.setdefault(name, Metric(name, documentation, kind))
            found = values[name]
            for sample, labels, value in samples:
                key = sample, frozenset(labels.items())
                before = found.get(key)
                combine = self._combined.get(name, sum)
                found[key] = value if before is None else combine((before, value))
        for name, metric in metrics.items():
            for (sample, labels_of_it), value in values[name].items():
                if not sample.endswith("_created"):  # each worker has its own
                    metric.add_sample(sample, dict(labels_of_it), value)
            yield metric

    def _families(self) -> Iterator[Any]:
        for file in self._folder.glob("*.json"):
            present = _lives(int(file.stem)) and time.time() - file.stat().st_mtime < _STALE_SECONDS
            for family in orjson.loads(file.read_bytes()):
                if present or family[2] != "gauge":
                    yield family


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another account's by now
        pass
    return True
