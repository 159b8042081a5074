"""Download published model directories into the user's cache, every file checked against a manifest.

Manifests are those of :mod:`nybble.published`. Files arrive in a folder beside the final one, resume after an
interruption, and the folder is renamed when the last file is right, so a model in the cache is always whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import queue
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nybble.cache import cache_folder
from nybble.progress import Progress, silent
from nybble.published import FetchError, Manifest, RemoteFile

_CHUNK = 1 << 16
_PART = ".part"
#: Replies worth another try: the server was busy or broken, not the request.
_PASSING = frozenset({408, 416, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Fetched:
    """The result of a fetch: the model's folder, files and bytes downloaded, and files that were there already."""

    path: Path
    downloaded: int
    downloaded_bytes: int
    kept: int


@dataclass(frozen=True)
class Retry:
    """How long to retry: tries for each file, fewer where the server was never reached, seconds before a silent server
    counts as gone, and the pause before the second try, which doubles each time up to ``longest_pause``.
    """

    tries: int = 6
    first_tries: int = 3
    timeout: float = 20.0
    first_pause: float = 0.5
    longest_pause: float = 8.0

    def pause(self, tried: int) -> float:
        """Seconds to wait after ``tried`` failed tries."""
        return min(self.first_pause * 2.0 ** (tried - 1), self.longest_pause)


def fetch(
    manifest: Manifest,
    *,
    cache: Path | None = None,
    base: str | None = None,
    force: bool = False,
    progress: Progress = silent,
    workers: int = 6,
    retry: Retry | None = None,
) -> Fetched:
    """Bring a model into the cache, or check the one that is there and repair it.

    Files that are complete and right are kept, whether the model was there already or an earlier fetch was
    interrupted; a file that arrived in part is continued where the server can do that.

    Parameters
    ----------
    manifest : Manifest
    cache : Path, optional
        The folder to put the model's folder into; by default :func:`cache_folder`.
    base : str, optional
        An http or https address to download from instead of ``manifest.base``.
    force : bool
        Download every file anew.
    progress : Progress
        Called with the bytes present, of ``manifest.size``. The number falls if a file has to start again.
    workers : int
        Files under way at once.
    retry : Retry, optional

    Returns
    -------
    Fetched

    Raises
    ------
    FetchError
        If a file cannot be downloaded, differs from the manifest, or cannot be written, or if another process is
        fetching the same model.
    """
    address = base or manifest.base
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise FetchError(f"{address!r} is not an http or https address")
    cache = cache or cache_folder()
    target = cache / manifest.name
    staging = cache / f"{manifest.name}{_PART}"
    arrived = _Arrived(manifest, progress)
    with _disk(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{manifest.name}.lock", manifest.name):
            _check_replaceable(target, manifest)
            if force:
                shutil.rmtree(staging, ignore_errors=True)
            right = {} if force else _verified(target, manifest)
            if len(right) == len(manifest.files):
                arrived.add(manifest.size)
                return Fetched(target, 0, 0, len(right))
            wanted = _stage(manifest, staging, right)
            arrived.add(manifest.size - sum(file.size for file in wanted))
            download = _Download(address.rstrip("/"), staging, arrived, retry or Retry())
            download.run(wanted, workers)
            _replace(target, staging)
    return Fetched(target, len(wanted), download.received, len(manifest.files) - len(wanted))


class _StoppedError(Exception):
    """Raised inside a worker when another one has failed or the user gave up."""


class _Arrived:
    """Counts the bytes that are there, from any thread."""

    def __init__(self, manifest: Manifest, progress: Progress) -> None:
        self._what, self._total = f"fetching {manifest.name}", manifest.size
        self._progress = progress
        self._bytes = 0
        self._lock = threading.Lock()
        self.add(0)

    def add(self, count: int) -> None:
        """Note that so many more arrived or were found in place; negative where a file has to start again."""
        with self._lock:
            self._bytes += count
            self._progress(self._what, self._bytes, self._total)


class _Download:
    """Downloads files from one address into one folder, several at once."""

    def __init__(self, address: str, folder: Path, arrived: _Arrived, retry: Retry) -> None:
        self.address = address
        self.folder = folder
        self.retry = retry
        self.received = 0
        self._reached = False
        self._arrived = arrived
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, files: list[RemoteFile], workers: int) -> None:
        """Download the files; the first failure stops all and is raised."""
        # Threads of our own: an executor would make an interrupted process wait for a silent server.
        waiting: queue.SimpleQueue[RemoteFile] = queue.SimpleQueue()
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        for file in files:
            waiting.put(file)

        def work() -> None:
            try:
                while not self._stop.is_set():
                    self._file(waiting.get_nowait())
                    done.put(None)
            except (queue.Empty, _StoppedError):
                pass
            except BaseException as error:
                done.put(error)

        for _ in range(min(workers, len(files))):
            threading.Thread(target=work, name="nybble-fetch", daemon=True).start()
        try:
            for _ in files:
                failure = done.get()
                if failure is not None:
                    raise failure
        finally:
            self._stop.set()

    def _file(self, file: RemoteFile) -> None:
        final = self.folder / file.path
        part = final.with_name(final.name + _PART)
        url = f"{self.address}/{urllib.parse.quote(file.path)}"
        with _disk(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            if part.exists():
                self._arrived.add(part.stat().st_size)
        why = ""
        for tried in range(self.retry.tries):
            if tried and self._stop.wait(self.retry.pause(tried)):
                raise _StoppedError
            try:
                self._receive(url, file, part)
            except urllib.error.HTTPError as error:
                error.close()
                why = f"the server answered {error.code} {error.reason}"
                if error.code == 416:  # The requested range lies beyond the end of this file: start again.
                    self._forget(part)
                if error.code not in _PASSING:
                    raise FetchError(f"{url}: {why}") from None
                continue
            except (OSError, http.client.HTTPException) as error:
                why = _reason(error)
                if not self._reached and tried + 1 >= self.retry.first_tries:
                    raise FetchError(f"{url}: {why}; is there a connection to the network?") from None
                continue
            size = part.stat().st_size
            if size < file.size:
                why = f"the reply ended after {size} of {file.size} bytes"
                continue
            found = _sha256(part) if size == file.size else None
            if found == file.sha256:
                with _disk(final):
                    part.replace(final)
                return
            why = (
                f"SHA-256 is {found}, not {file.sha256}: it is not the file that was published"
                if found
                else f"the reply is longer than the {file.size} bytes that were published"
            )
            self._forget(part)
        raise FetchError(f"{url}: {why} ({self.retry.tries} tries); what has arrived is kept, fetch again to go on")

    def _receive(self, url: str, file: RemoteFile, part: Path) -> None:
        """Append the missing part of a file, as far as one reply brings it."""
        have = part.stat().st_size if part.exists() else 0
        if have > file.size:
            self._forget(part)
            have = 0
        if have == file.size:
            part.touch()
            return
        request = urllib.request.Request(url, headers={"User-Agent": "nybble"})  # noqa: S310 - checked in fetch
        if have:
            request.add_header("Range", f"bytes={have}-")
        with urllib.request.urlopen(request, timeout=self.retry.timeout) as reply:  # noqa: S310
            self._reached = True
            if have and not (reply.status == 206 and _starts_at(reply.headers.get("Content-Range"), have)):
                self._forget(part)
                if reply.status == 206:
                    raise http.client.HTTPException("the server sent another part than the one asked for")
                have = 0
            with _disk(part), part.open("ab") as sink:
                while have <= file.size:
                    chunk = self._read(reply)
                    if not chunk:
                        break
                    have += len(chunk)
                    sink.write(chunk)
                    self._count(len(chunk))

    def _read(self, reply: http.client.HTTPResponse) -> bytes:
        if self._stop.is_set():
            raise _StoppedError
        try:
            return reply.read1(_CHUNK)
        except OSError as error:
            # This block turns OSError into a disk error, so raise another type.
            raise http.client.HTTPException(_reason(error)) from error

    def _count(self, received: int) -> None:
        with self._lock:
            self.received += received
        self._arrived.add(received)

    def _forget(self, part: Path) -> None:
        """Drop the part of a file that has arrived, and subtract it from the progress."""
        with _disk(part):
            if part.exists():
                self._arrived.add(-part.stat().st_size)
                part.unlink()


def _stage(manifest: Manifest, staging: Path, right: dict[str, Path]) -> list[RemoteFile]:
    """Put correct files into the staging folder; return those still missing, their partial downloads in place."""
    known = {file.path for file in manifest.files}
    if staging.is_dir():
        for path in sorted(staging.rglob("*")):
            inside = path.relative_to(staging).as_posix()
            if path.is_file() and inside not in known and inside.removesuffix(_PART) not in known:
                path.unlink()
    wanted = []
    for file in manifest.files:
        final = staging / file.path
        final.parent.mkdir(parents=True, exist_ok=True)
        if _is_right(final, file):
            continue
        final.unlink(missing_ok=True)
        if file.path in right:
            shutil.copyfile(right[file.path], final)
        else:
            wanted.append(file)
    return wanted


def _check_replaceable(target: Path, manifest: Manifest) -> None:
    """Raise :class:`FetchError` where something else has the model's name in the cache."""
    if not target.exists() and not target.is_symlink():
        return
    known = {Path(file.path).parts[0] for file in manifest.files}
    if not target.is_dir() or any(entry.name not in known for entry in target.iterdir()):
        raise FetchError(f"{target}: exists already and is not a copy of {manifest.name}; move it, or set NYBBLE_CACHE")


def _verified(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """The files of a folder that are as the manifest says, by their path in it."""
    return {file.path: folder / file.path for file in manifest.files if _is_right(folder / file.path, file)}


def _is_right(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and _sha256(path) == file.sha256


def _replace(target: Path, staging: Path) -> None:
    """Rename the staging folder to the model's; an older one is moved away first and deleted afterwards."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _starts_at(content_range: str | None, offset: int) -> bool:
    return content_range is not None and content_range.strip().lower().startswith(f"bytes {offset}-")


def _reason(error: Exception) -> str:
    """The readable part of a network error: urllib wraps it, sometimes twice."""
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return "the server did not answer in time"
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return text or type(error).__name__


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn errors of the file system into a :class:`FetchError` that names the file."""
    try:
        yield
    except OSError as error:
        raise FetchError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold a lock file, so that two processes do not write the same parts."""
    with path.open("wb") as handle:
        _lock(handle, name)
        yield


def _lock(handle: BinaryIO, name: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FetchError(f"another process is fetching {name}; wait for it to end") from error
