"""Runs ``nybble`` in forks of one process, so that what is imported is imported once.

The modules to import beforehand are its arguments. Reads lines of JSON ``{"arguments": [...], "stdout": "pipe" |
"closed" | "full" | "gone", "environment": {...}}``, names of files in ``surrogateescape``, and answers
``{"code", "stdout", "stderr"}``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from typing import Any, BinaryIO


def main() -> None:
    from nybble.__main__ import main as nybble

    # What commands import, as far as it is installed.
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line), nybble)) + "\n")
        sys.stdout.flush()


def answer(case: dict[str, Any], nybble: Any) -> dict[str, Any]:
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if not child:
            code = 99
            try:
                code = run(case, nybble, stdout, stderr)
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        streams = []
        for stream in (stdout, stderr):
            stream.seek(0)
            streams.append(stream.read().decode(errors="replace"))
    return {"code": code, "stdout": streams[0], "stderr": streams[1]}


def run(case: dict[str, Any], nybble: Any, stdout: BinaryIO, stderr: BinaryIO) -> int:
    os.environ.update(case["environment"])
    signal.alarm(20)  # What hangs is killed.
    os.dup2(stderr.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    match case["stdout"]:
        case "closed":
            os.close(1)
        case "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        case "gone":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
        case _:
            os.dup2(stdout.fileno(), 1)
    # As the interpreter opens them; None stands for one that is closed.
    sys.stdout = None if case["stdout"] == "closed" else open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.argv = ["nybble", *case["arguments"]]
    try:
        nybble()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 98
    else:
        code = 0
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # What the interpreter reports at exit.
        code = 120
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
