"""Entry point of `daybook`: it ends with status 0, 1 or 2, and if it can't run, with a sentence on the reason."""

import signal
import sys
from contextlib import suppress
from types import FrameType

from cli.exit_codes import COULD_NOT_RUN, MISMATCH, MismatchFound
from cli.output import NobodyReads, Unwritten, close_all, give_up, note, open_all
from config.errors import CannotRun


def run() -> None:
    """Run the console script."""
    try:
        ended = _run()
    except KeyboardInterrupt:  # before the command began, or once it had ended
        ended = COULD_NOT_RUN
    sys.exit(ended)


def _run() -> int:
    """Run the command between the set-up and the close of signals and streams. Return the exit status."""
    # None: the handler isn't Python's, and couldn't be put back.
    former = {each: was for each in (signal.SIGTERM, signal.SIGHUP) if (was := signal.getsignal(each)) is not None}
    for each, handler in former.items():
        if handler != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(each, _as_ctrl_c)
    open_all()
    ended = status()
    for each, handler in former.items():
        signal.signal(each, handler)
    close_all()
    return ended


def _as_ctrl_c(_number: int, frame: FrameType | None) -> None:
    """Act as Ctrl-C would at this moment: then an embedded Postgres is stopped, too.

    Within `asyncio.run` it cancels the task. An exception at any place, amid asyncpg's C code, would crash.
    """
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)


def status() -> int:
    """Run the command in the arguments. Return the exit status."""
    try:
        from cli.main import app

        app()
    except MismatchFound:
        return MISMATCH
    except SystemExit as ended:  # Typer exits so after success, too, and has more statuses of its own, 1 among them
        return 0 if ended.code in (0, None) else COULD_NOT_RUN
    except KeyboardInterrupt:  # without a traceback, whenever it is pressed
        return COULD_NOT_RUN
    except Unwritten as error:
        give_up()
        if not isinstance(error, NobodyReads):
            note(f"daybook: {error}")
    except CannotRun as error:
        note(f"daybook: {error}")
    except Exception:  # noqa: BLE001 - unforeseen; Python's own status would be 1: a mismatch was found
        import traceback

        with suppress(OSError):
            traceback.print_exc()
    return COULD_NOT_RUN


if __name__ == "__main__":
    run()
