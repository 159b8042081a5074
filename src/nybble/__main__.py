"""``python -m nybble``, and the entry point of the command ``nybble``."""

from __future__ import annotations

import signal
import sys

from nybble.interrupts import noted_interrupts


def main() -> None:
    """Run the command line. Ctrl-C ends it quietly, even while modules are still being imported."""
    try:
        with noted_interrupts() as interrupts:
            try:
                from nybble.cli import app

                app()
            except (KeyboardInterrupt, ImportError):
                if interrupts:
                    sys.exit(130)
                raise
    finally:
        # While the interpreter shuts down, Ctrl-C ends the process at once: exit handlers would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
