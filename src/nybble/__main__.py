"""``python -m nybble``, and what the command ``nybble`` starts."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it as quietly as later."""
    try:
        from nybble.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Ctrl-C while the interpreter shuts down ends the process, without the traceback of whatever runs at exit.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
