"""``python -m nybble``, and what the command ``nybble`` starts."""

from __future__ import annotations

import signal
import sys

from nybble.interrupts import noted_interrupts


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it as quietly as later."""
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
        # Ctrl-C while the interpreter shuts down ends the process, without the traceback of whatever runs at exit.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
