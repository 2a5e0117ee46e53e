"""What is counted and measured, for Prometheus (docs/guides/operate.md says what to make of it)."""

from prometheus_client import Counter, Gauge, Histogram

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
POOL_SIZE = Gauge("daybook_pool_size", "Connections that there may be.", multiprocess_mode="livesum")
POOL_IN_USE = Gauge("daybook_pool_in_use", "Connections in use.", multiprocess_mode="livesum")
POOL_WAITING = Gauge("daybook_pool_waiting", "Requests that wait for a connection.", multiprocess_mode="livesum")
DATABASE_AWAY = Gauge("daybook_database_away", "1 while the database can't be reached.", multiprocess_mode="livemax")
REFUSALS = Counter("daybook_database_refusals_total", "Requests refused without asking the database.", ("reason",))
