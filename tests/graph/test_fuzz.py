"""A thousand seeded mutations of small model directories: a clear refusal or a load that round-trips, quickly."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from comparison import assert_equal
from test_malformed import every_type

from nybble.graph import Graph, ModelFormatError, read_graph, write_graph
from nybble.synthetic import bottleneck_resnet

#: Cases of each of the two directories; half as many outside continuous integration.
CASES = 500 if os.environ.get("CI") else 250
#: Seconds a case may take on a busy machine; a usual one takes a hundredth of one.
LIMIT = 10

NUMBERS = (
    *(b"", b"0", b"-1", b"1", b"2", b"15", b"16", b"65535", b"65536", b"65537", b"2147483647", b"2147483648"),
    *(b"-2147483648", b"4294967296", b"99999999999999999999", b"9" * 5000, b"1.5", b"1e9", b"nan", b"inf", b"0x10"),
)


class Folder:
    """A model folder whose files are changed and put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts = sorted(file for file in path.iterdir() if file.is_file())
        self.files = sorted(file for file in path.rglob("*") if file.is_file())
        self._originals = {file: file.read_bytes() for file in self.files}
        self._touched: set[Path] = set()

    def read(self, file: Path) -> bytes:
        return self._originals[file]

    def write(self, file: Path, data: bytes) -> None:
        self.remove(file)
        file.write_bytes(data)

    def remove(self, file: Path) -> None:
        self._touched.add(file)
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)

    def restore(self) -> None:
        for file in self._touched:
            self.write(file, self._originals[file])
        self._touched.clear()


def flip_bytes(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(draw.choice((folder.texts, folder.files)))
    data = bytearray(folder.read(file))
    for _ in range(draw.choice((1, 1, 2, 8))):
        if data:
            data[draw.randrange(len(data))] = draw.randrange(256)
    folder.write(file, bytes(data))


def truncate(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(draw.choice((folder.texts, folder.files)))
    data = folder.read(file)
    folder.write(file, data[: draw.randrange(len(data) + 1)])


def extend(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(folder.files)
    folder.write(file, folder.read(file) + draw.choice((b"\0", b"\n", b"x=1\n", b"\xff" * 99, b"\r\n\r\n")))


def edit_lines(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(folder.texts)
    lines = folder.read(file).splitlines(keepends=True)
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.choice(("delete", "duplicate", "swap", "move"))
    if how == "delete":
        del lines[one]
    elif how == "duplicate":
        lines.insert(other, lines[one])
    elif how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(other, lines.pop(one))
    folder.write(file, b"".join(lines))


def replace_number(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(folder.texts)
    data = folder.read(file)
    spots = list(re.finditer(rb"-?[0-9]+", data))
    if spots:
        spot = draw.choice(spots)
        folder.write(file, data[: spot.start()] + draw.choice(NUMBERS) + data[spot.end() :])


def replace_word(folder: Folder, draw: random.Random) -> None:
    """Put a word of one file in the place of a word of another: types, keys, names, modes."""
    file = draw.choice(folder.texts)
    data = folder.read(file)
    words = re.findall(rb"[A-Za-z0-9_]+", folder.read(draw.choice(folder.texts)))
    spots = list(re.finditer(rb"[A-Za-z0-9_]+", data))
    if words and spots:
        spot = draw.choice(spots)
        folder.write(file, data[: spot.start()] + draw.choice(words) + data[spot.end() :])


def remove(folder: Folder, draw: random.Random) -> None:
    folder.remove(draw.choice(folder.files))


def swap_files(folder: Folder, draw: random.Random) -> None:
    kind = draw.choice((folder.texts, folder.files))
    one, other = draw.choice(kind), draw.choice(kind)
    folder.write(one, folder.read(other))
    folder.write(other, folder.read(one))


def link(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(folder.files)
    target = draw.choice((str(draw.choice(folder.files)), "/etc/passwd", "/dev/zero", ".", "nowhere", file.name, ".."))
    folder.remove(file)
    file.symlink_to(target)


def replace_kind(folder: Folder, draw: random.Random) -> None:
    file = draw.choice(folder.files)
    folder.remove(file)
    if draw.random() < 0.5:
        file.mkdir()
    else:
        os.mkfifo(file)


def replace_value(folder: Folder, draw: random.Random) -> None:
    """Fill a data file with one byte, which keeps its size: sums at their bounds, NaN, zero factors."""
    file = draw.choice([file for file in folder.files if file not in folder.texts])
    folder.write(file, bytes([draw.choice((0, 0x7F, 0x80, 0x88, 0xFF))]) * len(folder.read(file)))


MUTATIONS: tuple[Callable[[Folder, random.Random], None], ...] = (
    *(flip_bytes, flip_bytes, truncate, extend, edit_lines, edit_lines, edit_lines, replace_number, replace_number),
    *(replace_number, replace_word, replace_word, remove, swap_files, link, replace_kind, replace_value),
)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(path: Path, scratch: Path) -> bool:
    """Whether the folder loads; if so, that it comes back from disk equal. Any other error than the one fails."""
    try:
        graph = read_graph(path)
    except ModelFormatError as error:
        assert str(error).startswith(str(path)), error
        assert len(error.message) < 700, str(error)[:200]
        return False
    write_graph(graph, scratch)
    assert_equal(read_graph(scratch), graph)
    return True


@pytest.mark.parametrize("which", ["containers", "nodes"])
def test_mutations(which: str, tmp_path: Path) -> None:
    graph: Graph = (
        bottleneck_resnet(blocks=(1, 1, 1, 2), width=2, image=32, classes=3) if which == "containers" else every_type()
    )
    write_graph(graph, tmp_path)
    folder = Folder(tmp_path / "model")
    loaded = 0
    for seed in range(CASES):
        draw = random.Random(f"{which} {seed}")
        names = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            mutation = draw.choice(MUTATIONS)
            names.append(mutation.__name__)
            mutation(folder, draw)
        try:
            with time_limit(LIMIT):
                loaded += check(folder.path, tmp_path / "scratch")
        except Exception as error:
            kept = tmp_path / "failing"
            shutil.copytree(folder.path, kept, symlinks=True, ignore=_pipes)
            raise AssertionError(f"case {seed} ({', '.join(names)}), kept in {kept}: {error!r}") from error
        folder.restore()
    assert_equal(read_graph(tmp_path), graph)
    # Both outcomes must stay common, or the mutations test little.
    assert 0.03 * CASES < loaded < 0.6 * CASES


def _pipes(parent: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(parent) / name).is_fifo()]
