"""Models packed into one file: the same network, whatever is wrong with the file, and no more memory than allowed."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.graph import Graph, ModelFormatError, read_graph, write_graph
from nybble.graph.archive import MOST_UNPACKED, ModelArchive, holds_model, is_archive, packed
from nybble.models import ModelNotFoundError, locate
from nybble.synthetic import bottleneck_resnet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    write_graph(bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=10), place)
    (place / "README.md").write_text("a card")
    (place / "LICENSE").write_text("a licence")
    (place / "quantize.yaml").write_text("bits: w4a4")
    return place


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    return packed(folder)


def assert_equal(found: Graph, expected: Graph, tmp_path: Path) -> None:
    """Equal networks are written as equal files."""
    for graph, name in ((found, "found"), (expected, "expected")):
        write_graph(graph, tmp_path / name)
    assert packed(tmp_path / "found") == packed(tmp_path / "expected")


def test_the_same_network(folder: Path, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_bytes(content)
    assert is_archive(file) and holds_model(file) and not is_archive(folder)
    assert locate(str(file)) == file
    assert_equal(read_graph(file), read_graph(folder), tmp_path)


def test_what_is_packed(folder: Path, content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    inside = sorted(str(path.relative_to(folder)) for path in (folder / "model").rglob("*") if path.is_file())
    assert sorted(names) == sorted([*inside, "LICENSE", "README.md"])
    assert packed(folder) == content
    # Of `model/` itself nothing beside it is packed.
    with zipfile.ZipFile(io.BytesIO(packed(folder / "model"))) as archive:
        assert sorted(archive.namelist()) == inside


def test_a_file_that_is_replaced_or_changed(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_bytes(content)
    graph = read_graph(file)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    other.replace(file)
    # The file that was opened is still read.
    assert all(node.weight.raw() for node in graph if hasattr(node, "weight"))
    file.write_bytes(content)
    graph = read_graph(file)
    os.utime(file, (1, 1))
    with pytest.raises(ModelFormatError, match="has changed since the model was loaded"):
        [node.weight.raw() for node in graph if hasattr(node, "weight")]


def test_no_file_stays_open(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_bytes(content)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        read_graph(file)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def rewritten(content: bytes, change: Callable[[dict[str, bytes]], None], how: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def without_root(files: dict[str, bytes]) -> None:
    del files["model/model"]


def without_weight(files: dict[str, bytes]) -> None:
    del files[next(name for name in files if name.startswith("model/npdata/"))]


def longer_weight(files: dict[str, bytes]) -> None:
    files[next(name for name in files if name.startswith("model/npdata/"))] += b"\0"


def long_text(files: dict[str, bytes]) -> None:
    files["model/model"] += b"\n" * (4 << 20)


def nothing(files: dict[str, bytes]) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "how", "message"),
    [
        (without_root, zipfile.ZIP_STORED, "holds no model: expected model/model in it"),
        (without_weight, zipfile.ZIP_STORED, "is missing"),
        (longer_weight, zipfile.ZIP_DEFLATED, "bytes, but"),
        (long_text, zipfile.ZIP_STORED, "is larger than the 4194304 bytes a text file may have"),
        (nothing, zipfile.ZIP_BZIP2, "compressed in a way other than deflate"),
        (nothing, zipfile.ZIP_LZMA, "compressed in a way other than deflate"),
    ],
)
def test_what_is_refused(
    change: Callable[[dict[str, bytes]], None], how: int, message: str, content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "model.zip"
    file.write_bytes(rewritten(content, change, how))
    with pytest.raises(ModelFormatError, match=message) as raised:
        read_graph(file)
    assert str(file) in str(raised.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    file.write_bytes(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("model/model", b"another")
    with pytest.raises(ModelFormatError, match="has two files of one name"):
        read_graph(file)


def test_a_bomb_is_not_unpacked(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    rate, more = MOST_UNPACKED

    def bomb(files: dict[str, bytes]) -> None:
        files["model/npdata/bomb"] = bytes(rate * len(content) + more + (16 << 20))

    file.write_bytes(rewritten(content, bomb, zipfile.ZIP_DEFLATED))
    assert file.stat().st_size < 4 * len(content)
    with pytest.raises(ModelFormatError, match="would unpack to more than 100 times its size"):
        read_graph(file)


def test_a_network_of_zeros_is_packed_so_that_it_can_be_read(tmp_path: Path) -> None:
    folder, file = tmp_path / "zeros", tmp_path / "zeros.zip"
    write_graph(bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=10), folder)
    (folder / "model" / "npdata" / "zeros").write_bytes(bytes(32 << 20))
    file.write_bytes(packed(folder))
    assert file.stat().st_size > 32 << 20
    read_graph(file)


def test_names_cannot_leave_the_archive(content: bytes, tmp_path: Path) -> None:
    """Nothing is unpacked to the disk; a reference to a file outside is refused as in a folder."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 16))

    def outside(files: dict[str, bytes]) -> None:
        layer = next(name for name, data in files.items() if b"npdata/" in data)
        at = files[layer].index(b"model/npdata/")
        end = files[layer].index(b"\n", at)
        files[layer] = files[layer][:at] + b"model/../../secret" + files[layer][end:]
        files["../secret"] = bytes(1 << 16)

    file = tmp_path / "model.zip"
    file.write_bytes(rewritten(content, outside))
    with pytest.raises(ModelFormatError, match="must start with model/ and stay there"):
        read_graph(file)
    assert [path.name for path in tmp_path.iterdir()] in (["secret", "model.zip"], ["model.zip", "secret"])


@given(data=st.data())
def test_damaged_bytes(data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A damaged file is refused in one line, or is the same network: the damage lies where nothing is read."""
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    file = tmp_path_factory.mktemp("damaged") / "model.zip"
    file.write_bytes(changed[:cut])
    try:
        graph = ModelArchive(file) and read_graph(file)
        raw = [node.weight.raw() for node in graph if hasattr(node, "weight")]
    except ModelFormatError as error:
        assert "\n" not in str(error)
        return
    file.write_bytes(content)
    expected = read_graph(file)
    assert raw == [node.weight.raw() for node in expected if hasattr(node, "weight")]


def test_other_zip_files_hold_no_model(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert is_archive(file) and not holds_model(file)
    with pytest.raises(ModelFormatError, match=r"weights\.pth: holds no model"):
        read_graph(file)
    text = tmp_path / "text"
    text.write_text("text")
    with pytest.raises(ModelNotFoundError, match="a model is a folder, such a folder packed by `nybble pack`"):
        locate(str(text))


def weights(graph: Graph) -> list[bytes]:
    return [node.weight.raw() for node in graph if hasattr(node, "weight")]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_reads_for_itself(content: bytes, tmp_path: Path) -> None:
    """Parent and child share the open file, but not a position in it."""
    file = tmp_path / "model.zip"
    file.write_bytes(content)
    graph = read_graph(file)
    expected = weights(read_graph(file))
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            os._exit(not all(weights(graph) == expected for _ in range(5)))
        children.append(child)
    assert all(weights(graph) == expected for _ in range(10))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
