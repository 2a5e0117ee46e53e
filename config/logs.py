"""Logging: structlog for our lines, and the standard library's loggers through one renderer with it."""

import io
import logging
import sys
from collections.abc import Hashable
from functools import cache
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from config.log_writer import WriterThreadHandler

_SAID = (
    "Invalid HTTP request received",
    "Cancel %s running task",
    "ASGI callable returned without completing",
    "Application startup failed",
    "Child process [",
)
"""Beginnings of uvicorn's messages that lines of ours replace."""


def _said_better(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_SAID)


@cache
def once(logger: Any, level: Literal["info", "warning"], event: str, **fields: Hashable) -> None:
    """Log a line once in the life of this process, however many times it is called."""
    getattr(logger, level)(event, **fields)


def configure(level: str, form: Literal["console", "json"]) -> None:
    """Send log lines of ours and of libraries to standard error: readable ones, or one JSON object each."""
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
        else [
            _escape_values,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_format_exception),
        ]
    )
    handler = _handler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    for former in root.handlers:
        if isinstance(former, WriterThreadHandler):
            former.close()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn.error").addFilter(_said_better)
    # Our lines say it better, or nobody needs it.
    for noisy in ("uvicorn.access", "alembic", "asyncio", "uvicorn.error", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(max(logging.getLevelNamesMapping()[level], logging.WARNING))


def _handler() -> logging.Handler:
    try:
        return WriterThreadHandler(sys.stderr.fileno())
    except io.UnsupportedOperation:  # a stream in memory, which needs no reader
        return logging.StreamHandler(sys.stderr)


def _escape_values(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape characters that act on a terminal: anybody may have written the values. (JSON escapes by itself.)"""
    for name, value in event.items():
        if name != "exc_info":
            text = value if isinstance(value, str) else repr(value)
            event[name] = _escape(text, keep="\n" if name in ("event", "stack", "exception") else "")
    return event


def _format_exception(out: TextIO, exc_info: ExcInfo) -> None:
    # A plain traceback: the pretty one shows local variables, which may be secrets.
    traceback = io.StringIO()
    structlog.dev.plain_traceback(traceback, exc_info)
    out.write(_escape(traceback.getvalue(), keep="\n"))


def _escape(text: str, *, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )
