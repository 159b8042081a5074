"""Work folders: one run at a time, however the other one ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nybble.quantize.errors import QuantizeError
from nybble.quantize.pipeline.lock import locked


@contextmanager
def holder(folder: Path, body: str) -> Iterator[subprocess.Popen[str]]:
    """A process that locks a folder, says so, does what ``body`` says, and waits to be killed."""
    code = (
        "import os, sys, time; from pathlib import Path; from nybble.quantize.pipeline.lock import locked\n"
        f"with locked(Path({str(folder)!r})):\n    {body}\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    work = tmp_path / "deep" / "work"
    file = tmp_path / "child"
    # A forked worker that outlives it does not keep the lock.
    fork = (
        "child = os.fork(); child or (os.close(1), time.sleep(60), os._exit(0)); "
        f"Path({str(file)!r}).write_text(str(child))"
    )
    with holder(work, fork) as process:
        for _ in range(2):
            words = rf"work: process {process.pid} is at work there; .*--work"
            with pytest.raises(QuantizeError, match=words), locked(work):
                pass
    try:
        with locked(work):
            assert (work / "lock").read_text() == f"{os.getpid()}\n"
    finally:
        os.kill(int(file.read_text()), 9)


def test_a_thread_may_lock_again_what_it_has_and_no_other_thread(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with locked(tmp_path / "work"):
                pass
        except QuantizeError as error:
            refused.append(str(error))

    (tmp_path / "link").symlink_to("work")
    with locked(tmp_path / "work"), locked(tmp_path / "link"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1 and f"process {os.getpid()} is at work there" in refused[0]
    with locked(tmp_path / "work"):
        pass


def test_what_it_leaves_behind(tmp_path: Path) -> None:
    with locked(tmp_path / "empty"):
        assert (tmp_path / "empty" / "lock").is_file()
    assert not (tmp_path / "empty").exists()
    with locked(tmp_path / "used"):
        (tmp_path / "used" / "state.pt").write_text("")
    assert {path.name for path in (tmp_path / "used").iterdir()} == {"lock", "state.pt"}


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_folders_that_cannot_be_used(kind: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    if kind == "file":
        work.write_text("")
    else:
        work.mkdir()
        (work / "lock").symlink_to(tmp_path / "elsewhere") if kind == "link" else os.mkfifo(work / "lock")
    with pytest.raises(QuantizeError, match=f"{work}: cannot be used as a work folder"), locked(work):
        pass
    assert not (tmp_path / "elsewhere").exists()
