"""Fetching from a local server that truncates, corrupts, refuses, cannot resume, or is not there."""

from __future__ import annotations

import fcntl
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_server import CONTENTS, Server, manifest_of, running
from nybble.fetch import Retry, fetch
from nybble.published import FetchError, Manifest

BIG = "model/npdata/conv1.weight"
QUICK = Retry(tries=4, timeout=20.0, first_pause=0.0)
#: For servers that fall silent; long enough for a busy machine to answer in.
IMPATIENT = Retry(tries=2, timeout=0.8, first_pause=0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def manifest(server: Server) -> Manifest:
    return manifest_of(server)


def assert_whole(folder: Path) -> None:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == CONTENTS


def assert_absent(cache: Path) -> None:
    assert not (cache / "tiny").exists(), "a model that is not whole must not be in the cache"


def test_fetches_every_file_and_leaves_nothing_else(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    arrived: list[tuple[str, int, int | None]] = []
    result = fetch(manifest, cache=tmp_path / "new" / "cache", progress=lambda *at: arrived.append(at), retry=QUICK)
    assert result.path == tmp_path / "new" / "cache" / "tiny"
    assert_whole(result.path)
    assert (result.downloaded, result.downloaded_bytes, result.kept) == (3, manifest.size, 0)
    assert arrived[-1] == ("fetching tiny", manifest.size, manifest.size)
    assert sorted(path.name for path in result.path.parent.iterdir()) == ["tiny", "tiny.lock"]


def test_a_whole_model_is_not_downloaded_again(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    fetch(manifest, cache=tmp_path, retry=QUICK)
    server.requests.clear()
    arrived: list[tuple[str, int, int | None]] = []
    result = fetch(manifest, cache=tmp_path, progress=lambda *at: arrived.append(at), retry=QUICK)
    assert server.requests == []
    assert (result.downloaded, result.kept, arrived[-1][1]) == (0, 3, manifest.size)


def test_force_downloads_everything(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    fetch(manifest, cache=tmp_path, retry=QUICK)
    server.requests.clear()
    assert fetch(manifest, cache=tmp_path, force=True, retry=QUICK).downloaded == 3
    assert len(server.requests) == 3
    assert_whole(tmp_path / "tiny")


def test_a_damaged_model_is_repaired(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    fetch(manifest, cache=tmp_path, retry=QUICK)
    (tmp_path / "tiny" / BIG).write_bytes(b"damaged")
    (tmp_path / "tiny" / "model" / "model").unlink()
    server.requests.clear()
    result = fetch(manifest, cache=tmp_path, retry=QUICK)
    assert (result.downloaded, result.kept) == (2, 1)
    assert set(server.count()) == {BIG, "model/model"}
    assert_whole(tmp_path / "tiny")


def test_a_truncated_reply_is_continued(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    server.faults[BIG] = ["truncated", "truncated"]
    arrived: list[tuple[str, int, int | None]] = []
    result = fetch(manifest, cache=tmp_path, progress=lambda *at: arrived.append(at), retry=QUICK)
    assert_whole(result.path)
    size = len(CONTENTS[BIG])
    expected = [None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]
    assert [asked for path, asked in server.requests if path == BIG] == expected
    assert result.downloaded_bytes == manifest.size == arrived[-1][1]


def test_a_server_without_ranges_starts_again(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    server.ranges = False
    server.faults[BIG] = ["truncated"]
    arrived: list[tuple[str, int, int | None]] = []
    result = fetch(manifest, cache=tmp_path, progress=lambda *at: arrived.append(at), retry=QUICK)
    assert_whole(result.path)
    assert arrived[-1] == ("fetching tiny", manifest.size, manifest.size)
    assert result.downloaded_bytes == manifest.size + len(CONTENTS[BIG]) // 2


@pytest.mark.parametrize("fault", ["corrupted", "longer", "500", "503", "429"])
def test_a_passing_fault_is_tried_again(server: Server, manifest: Manifest, tmp_path: Path, fault: str) -> None:
    server.faults[BIG] = [fault, fault]
    arrived: list[tuple[str, int, int | None]] = []
    assert_whole(fetch(manifest, cache=tmp_path, progress=lambda *at: arrived.append(at), retry=QUICK).path)
    assert server.count()[BIG] == 3
    assert arrived[-1] == ("fetching tiny", manifest.size, manifest.size)


@pytest.mark.parametrize("fault", ["wrong range", "416"])
def test_a_refused_or_wrong_range_starts_again(server: Server, manifest: Manifest, tmp_path: Path, fault: str) -> None:
    server.faults[BIG] = ["truncated", fault]
    assert_whole(fetch(manifest, cache=tmp_path, retry=QUICK).path)
    assert [asked is None for path, asked in server.requests if path == BIG] == [True, False, True]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("truncated", r"the reply ended after \d+ of 307200 bytes"),
        ("corrupted", "SHA-256 is .* not .*: it is not the file that was published"),
        ("longer", "the reply is longer than the 307200 bytes that were published"),
        ("500", "the server answered 500"),
    ],
)
def test_a_lasting_fault_is_named_and_nothing_is_installed(
    server: Server, manifest: Manifest, tmp_path: Path, fault: str, text: str
) -> None:
    server.faults[BIG] = [fault] * 10
    with pytest.raises(FetchError, match=text) as caught:
        fetch(manifest, cache=tmp_path, retry=QUICK)
    assert f"{server.base}/{BIG}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.count()[BIG] == QUICK.tries
    assert_absent(tmp_path)


def test_a_missing_file_is_not_asked_for_again(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    del server.contents[BIG]
    with pytest.raises(FetchError, match=re.escape(f"{server.base}/{BIG}: the server answered 404 Not Found")):
        fetch(manifest, cache=tmp_path, retry=QUICK)
    assert server.count()[BIG] == 1
    assert_absent(tmp_path)


def test_a_server_that_is_not_there(manifest: Manifest, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(FetchError, match=r"Connection refused; is there a connection to the network\?"):
            fetch(manifest, cache=tmp_path, base=base, retry=QUICK)
    assert_absent(tmp_path)


def test_what_arrived_before_an_interruption_is_kept(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    server.faults[BIG] = ["truncated", "404"]
    with pytest.raises(FetchError, match="404"):
        fetch(manifest, cache=tmp_path, workers=1, retry=QUICK)
    assert_absent(tmp_path)
    half = len(CONTENTS[BIG]) // 2
    assert (tmp_path / "tiny.part" / f"{BIG}.part").stat().st_size == half
    (tmp_path / "tiny.part" / "model" / "stray").write_text("left by an older version")
    server.requests.clear()
    arrived: list[tuple[str, int, int | None]] = []
    result = fetch(manifest, cache=tmp_path, progress=lambda *at: arrived.append(at), retry=QUICK)
    assert sorted(server.requests, key=str) == [(BIG, f"bytes={half}-"), ("model/npdata/fc.bias", None)]
    assert (result.downloaded, result.kept) == (2, 1)
    assert arrived[-1] == ("fetching tiny", manifest.size, manifest.size)
    assert_whole(result.path)


def test_a_silent_server_is_tried_again(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    server.faults[BIG] = ["silent"]
    assert_whole(fetch(manifest, cache=tmp_path, retry=IMPATIENT).path)
    assert server.count()[BIG] == 2


def test_a_server_that_stays_silent_is_named(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    server.faults[BIG] = ["silent"] * 10
    with pytest.raises(FetchError, match="the server did not answer in time"):
        fetch(manifest, cache=tmp_path, retry=IMPATIENT)
    assert_absent(tmp_path)


def test_the_model_appears_when_its_last_file_is_there(server: Server, manifest: Manifest, tmp_path: Path) -> None:
    server.faults[BIG] = ["silent"]
    program = threading.Thread(target=fetch, args=(manifest,), kwargs={"cache": tmp_path, "retry": QUICK})
    program.start()
    while len(server.requests) < 3 or not (tmp_path / "tiny.part" / "model" / "model").exists():
        time.sleep(0.01)
    assert_absent(tmp_path)
    server.released.set()
    program.join()
    assert_whole(tmp_path / "tiny")


@pytest.mark.parametrize("content", [b"wrong", CONTENTS[BIG][:-1] + b"!", CONTENTS[BIG] + b"!"])
def test_wrong_leftovers_are_replaced(server: Server, manifest: Manifest, tmp_path: Path, content: bytes) -> None:
    for name in (f"{BIG}.part", "model/model"):
        path = tmp_path / "tiny.part" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    arrived: list[tuple[str, int, int | None]] = []
    assert_whole(fetch(manifest, cache=tmp_path, progress=lambda *at: arrived.append(at), retry=QUICK).path)
    assert arrived[-1] == ("fetching tiny", manifest.size, manifest.size)


def test_a_full_disk_is_named(manifest: Manifest, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    part = tmp_path / "tiny.part" / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to(full)
    with pytest.raises(FetchError, match=r"conv1\.weight\.part: cannot be written: No space left on device"):
        fetch(manifest, cache=tmp_path, retry=QUICK)
    assert_absent(tmp_path)


@pytest.mark.parametrize("inside", ["", "tiny.part"])
def test_a_file_in_the_way_is_named(manifest: Manifest, tmp_path: Path, inside: str) -> None:
    blocked = tmp_path / "cache" / inside
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("not a folder")
    with pytest.raises(FetchError, match=r"cache.*: cannot be written: (Not a directory|File exists)"):
        fetch(manifest, cache=tmp_path / "cache", retry=QUICK)


def test_two_fetches_of_one_model_do_not_meet(manifest: Manifest, tmp_path: Path) -> None:
    with (tmp_path / "tiny.lock").open("wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process is fetching tiny"):
            fetch(manifest, cache=tmp_path, retry=QUICK)


@pytest.mark.parametrize("base", ["file:///etc", "ftp://127.0.0.1/x", "127.0.0.1/x", ""])
def test_only_http_addresses(manifest: Manifest, tmp_path: Path, base: str) -> None:
    manifest = Manifest("tiny", "", "", "", base, manifest.files)
    with pytest.raises(FetchError, match="is not an http or https address"):
        fetch(manifest, cache=tmp_path)


def test_pauses_double_up_to_a_limit() -> None:
    assert [Retry().pause(tried) for tried in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
