"""Starts the process that runs LoadGen, follows it, and ends it when the command ends."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any

from nybble.mlperf.errors import MlperfError
from nybble.mlperf.job import Job
from nybble.progress import Progress, silent


def execute(job: Job, progress: Progress = silent, what: str = "", total: int | None = None) -> dict[str, Any]:
    """Run a job in a process of its own and return what it answers. Raises :class:`MlperfError` if it fails.

    ``progress`` is told of ``what``, how many photos are answered, and ``total``.
    """
    command = [sys.executable, "-m", "nybble.mlperf.worker"]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(job.line() + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if not line.startswith('{"'):
                    continue  # A library's.
                message = json.loads(line)
                if "done" in message:
                    progress(what, message["done"], total)
                elif "error" in message:
                    raise MlperfError(message["error"])
                elif "crash" in message:
                    raise RuntimeError(f"in the process that runs LoadGen:\n{message['crash']}")
                else:
                    return dict(message["result"])
        except BrokenPipeError:
            pass
        finally:
            # The process ends after its answer; if the caller leaves without one, it must be ended.
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    stream.close()
        complaints.seek(0)
        last = complaints.read().strip().splitlines()[-1:]
    raise MlperfError(
        f"the process that runs LoadGen ended with {process.returncode}: {' '.join(last) or 'no message'}"
    )
