"""One run at a time in a work folder: two would overwrite each other's checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nybble.quantize.errors import QuantizeError

#: The file that is locked; it holds the process id.
LOCK = "lock"
_TRIES = 100
#: Descriptors of the locks that this process holds, by folder, and the thread that holds them.
_held: dict[Path, tuple[int, int]] = {}


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Keep other runs out of a work folder, which is made if it is not there.

    The system releases the lock when the process ends, however it ends. A thread may lock a folder again that it has
    locked. A folder that holds nothing else is removed afterwards. Of the processes that ``torchrun`` starts, only the
    first one takes the lock.

    Raises
    ------
    QuantizeError
        Naming the folder and the process that has it.
    """
    folder = Path(os.path.realpath(work))
    is_mine = folder in _held and _held[folder][1] == threading.get_ident()
    if is_mine or os.environ.get("RANK", "0") != "0":
        yield
        return
    descriptor = _taken(work, folder)
    _held[folder] = (descriptor, threading.get_ident())
    try:
        yield
    finally:
        del _held[folder]
        # While it is locked: a run that opened the file in the meantime sees that it has been removed.
        with contextlib.suppress(OSError):
            if [entry.name for entry in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        os.close(descriptor)


def _taken(work: Path, folder: Path) -> int:
    """The descriptor of a lock that this process has got."""
    while True:
        descriptor = _opened(work, folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise QuantizeError(f"{work}: cannot be locked: {error.strerror or error}") from error
            who = f"process {owner}" if owner.isdigit() else "another process"
            raise QuantizeError(
                f"{work}: {who} is at work there; wait for it to end, or name another folder with --work"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK)):  # noqa: PTH116 - beside fstat
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
        # A run that has ended removed the file after it was opened here.
        os.close(descriptor)


def _opened(work: Path, folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK, flags, 0o644)
        except FileNotFoundError:  # A run that has ended removed the folder between the two.
            continue
        except (FileExistsError, NotADirectoryError) as error:
            raise QuantizeError(f"{work}: cannot be used as a work folder: it is a file, or lies in one") from error
        except OSError as error:
            raise QuantizeError(f"{work}: cannot be used as a work folder: {error.strerror or error}") from error
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        break
    raise QuantizeError(
        f"{work}: cannot be used as a work folder: {folder / LOCK} cannot be made, or is not a regular file"
    )


def _leave_to_parent() -> None:
    """In a forked worker: a lock lasts as long as any process has its descriptor open."""
    for descriptor, _ in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
