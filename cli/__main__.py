"""Where `daybook` begins: whoever presses Ctrl-C before all is loaded gets no traceback either."""

import sys

COULD_NOT_RUN = 2
"""Exit status; contract, section 8."""


def run() -> None:
    try:
        from cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    run()
