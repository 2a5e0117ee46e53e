"""Logging: structlog for us, and the standard library's loggers through the same renderer."""

import logging
import sys
from collections.abc import Hashable
from functools import cache
from typing import Any, Literal

import structlog
from structlog.typing import Processor

_SAID = (
    "Invalid HTTP request received",
    "Cancel %s running task",
    "ASGI callable returned without completing",
    "Application startup failed",
    "Child process [",
)
"""What uvicorn says, and a line of ours says better."""


def _said_better(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_SAID)


@cache
def once(logger: Any, level: Literal["info", "warning"], event: str, **fields: Hashable) -> None:
    """Log a line once in the life of this process, however often it is found."""
    getattr(logger, level)(event, **fields)


def configure(level: str, form: Literal["console", "json"]) -> None:
    """Lines to standard error, from us and from libraries alike: readable ones, or one JSON object each."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        # A plain traceback: the pretty one shows local variables, which may be secrets.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn.error").addFilter(_said_better)
    # Their lines say what ours say better, or say what nobody needs.
    for noisy in ("uvicorn.access", "alembic", "asyncio", "uvicorn.error", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(max(logging.getLevelNamesMapping()[level], logging.WARNING))
