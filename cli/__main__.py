"""Where `daybook` begins, and where it ends by Ctrl-C, whenever that is pressed: without a traceback."""

import sys

COULD_NOT_RUN = 2
"""Exit status; contract, section 8."""
_INTERRUPTED = 130
"""Typer's, as a shell's, where it was Typer that saw the Ctrl-C."""


def run() -> None:
    try:
        from cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(COULD_NOT_RUN)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            sys.exit(COULD_NOT_RUN)
        raise


if __name__ == "__main__":
    run()
