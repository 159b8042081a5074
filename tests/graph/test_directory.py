"""Model directories: the published one byte for byte, drawn graphs, containers or not, and replacing."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import given

from nybble.graph import (
    DType,
    Graph,
    GraphError,
    Input,
    Node,
    NybbleError,
    Pair,
    Preprocessing,
    Quantize,
    ReLU,
    Tensor,
    read_graph,
    write_graph,
)
from nybble.synthetic import bottleneck_resnet
from strategies import graphs

MINI = {"width": 2, "image": 32, "classes": 5}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def root_kind(folder: Path) -> str:
    return (folder / "model" / "model").read_text().split()[0]


@pytest.mark.data
def test_published_directory_is_rewritten_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    published = shared_data / "nvidia-resnet50-int4"
    graph = read_graph(published)
    write_graph(graph, tmp_path)
    assert files_of(tmp_path / "model") == files_of(published / "model")
    assert_equal(read_graph(tmp_path), graph)


@pytest.mark.data
def test_published_directory_as_nodes(shared_data: Path) -> None:
    graph = read_graph(shared_data / "nvidia-resnet50-int4" / "model")
    assert len(graph) == 4 + 12 * 11 + 4 * 13 + 3
    assert graph.inputs == (Input(name="input", dtype=DType.S8, shape=(3, 224, 224)),)
    assert graph.outputs == ("scale",)
    assert graph.preprocessing == Preprocessing()
    assert [node.name for node in graph][4:18] == [
        f"layer1_0_{part}"
        for part in (
            *("conv1", "relu1", "quantize1", "conv2", "relu2", "quantize2"),
            *("downsample_0", "downsample_1", "downsample_2", "conv3", "add", "relu3", "quantize3"),
        )
    ] + ["layer1_1_conv1"]
    assert graph["layer1_0_add"].inputs == ("layer1_0_conv3", "layer1_0_downsample_2")
    assert graph["layer1_1_add"].inputs == ("layer1_1_conv3", "layer1_1_downsample")
    assert graph["layer1_1_downsample"].inputs == ("layer1_0_quantize3",)
    assert str(graph.values["layer4_2_quantize3"]) == "u7[2048x7x7]"
    assert str(graph.values["scale"]) == "f32[1000]"
    factor = graph["quantize1"]
    assert isinstance(factor, Quantize) and factor.factor.shape == (64,) and factor.shift == 16


@given(graph=graphs())
def test_drawn_graphs_come_back(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    write_graph(graph, folder)
    assert root_kind(folder) == "Graph"
    back = read_graph(folder)
    assert_equal(back, graph)
    write_graph(back, folder / "again")
    assert files_of(folder / "again" / "model") == files_of(folder / "model")
    shutil.rmtree(folder)


@pytest.mark.parametrize("blocks", [(1, 1, 1, 1), (2, 1, 3, 2), (12, 1, 1, 1)])
def test_resnets_are_written_with_containers(blocks: tuple[int, int, int, int], tmp_path: Path) -> None:
    graph = bottleneck_resnet(blocks=blocks, **MINI)
    write_graph(graph, tmp_path)
    assert root_kind(tmp_path) == "ResNetQuantized"
    assert (tmp_path / "model" / "layer1").read_bytes() == b"Sequential\r\nchildren_count=%d\r\n" % blocks[0]
    assert not (tmp_path / "model" / "format_version").exists()
    assert_equal(read_graph(tmp_path), graph)


def remade(graph: Graph, nodes: list[Node] | None = None, **changes: object) -> Graph:
    known = {"preprocessing": graph.preprocessing, "class_names": graph.class_names} | changes
    return Graph(graph.inputs, nodes if nodes is not None else graph.nodes, graph.outputs, **known)  # type: ignore[arg-type]


def changed(graph: Graph, name: str, **attributes: object) -> list[Node]:
    return [replace(node, **attributes) if node.name == name else node for node in graph]  # type: ignore[arg-type]


def test_what_containers_cannot_express_is_written_as_nodes(tmp_path: Path) -> None:
    graph = bottleneck_resnet(blocks=(1, 1, 1, 1), **MINI)
    renamed = {"fc": "classifier"}
    swapped = list(graph.nodes)
    at = next(position for position, node in enumerate(swapped) if node.name == "layer1_0_downsample_0")
    swapped.insert(at - 1, swapped.pop(at))
    clipped = graph["layer1_0_relu1"]
    assert isinstance(clipped, ReLU)
    variants = {
        "one of three relus that share a file differs": remade(graph, changed(graph, "layer1_0_relu1", maximum=9)),
        "no preprocessing": remade(graph, preprocessing=None),
        "another order": remade(graph, swapped),
        "another name": remade(
            graph,
            [
                replace(
                    node,
                    name=renamed.get(node.name, node.name),
                    inputs=tuple(renamed.get(name, name) for name in node.inputs),
                )
                for node in graph
            ],
        ),
        "the addition the other way round": remade(
            graph, changed(graph, "layer2_0_add", inputs=graph["layer2_0_add"].inputs[::-1])
        ),
        "a stride that differs by side": remade(
            graph,
            [
                replace(node, stride=Pair(2, 1))  # type: ignore[call-arg]
                if node.name in ("layer4_0_conv2", "layer4_0_downsample_0")
                else replace(node, kernel_size=Pair(1, 2))  # type: ignore[call-arg]
                if node.name == "avgpool"
                else node
                for node in graph
            ],
        ),
        "one more output": Graph(graph.inputs, graph.nodes, ["scale", "fc"], preprocessing=graph.preprocessing),
    }
    for position, (why, variant) in enumerate(variants.items()):
        folder = tmp_path / str(position)
        write_graph(variant, folder)
        assert root_kind(folder) == "Graph", why
        assert (folder / "model" / "format_version").read_bytes() == b"FormatVersion\r\nversion=1\r\n"
        assert_equal(read_graph(folder), variant)


def test_containers_with_relu_maximum_and_wider_types(tmp_path: Path) -> None:
    graph = bottleneck_resnet(blocks=(1, 1, 1, 1), **MINI)
    nodes = [replace(node, maximum=5000) if isinstance(node, ReLU) else node for node in graph]
    graph = remade(graph, nodes, class_names=["a", "b c", "Füchse", "d,e", "=f"])
    write_graph(graph, tmp_path)
    assert root_kind(tmp_path) == "ResNetQuantized"
    assert (tmp_path / "model" / "class_names").read_text("utf-8").split("\n")[2] == "Füchse"
    assert_equal(read_graph(tmp_path), graph)


def small_graph(**changes: object) -> Graph:
    factor = Tensor.from_array(DType.U16, np.array([3, 70, 65535]))
    quantize = Quantize(name="q", inputs=("x",), input_type=DType.U8, output_type=DType.U4, factor=factor, shift=4)
    return Graph([Input(name="x", dtype=DType.U8, shape=(3, 4, 5))], [quantize], ["q"], **changes)  # type: ignore[arg-type]


def test_preprocessing_comes_back_exactly(tmp_path: Path) -> None:
    preprocessing = Preprocessing(
        resize=292,
        crop=(4, 5),
        interpolation="bicubic",
        mean=(127 / 255, 0.1, -1e-7),
        std=(128 / 255, 1e-30, 3e10),
        input_type=DType.U8,
        scale_numerator=1 / 3,
        scale_denominator=7e-5,
    )
    graph = small_graph(preprocessing=preprocessing, class_names=("one", "two", "three"))
    write_graph(graph, tmp_path)
    assert read_graph(tmp_path).preprocessing == preprocessing


def test_model_may_be_either_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graph()
    write_graph(graph, tmp_path / "net")
    write_graph(graph, tmp_path / "other" / "model")
    for place in ("net", "net/model", "other", "other/model"):
        assert_equal(read_graph(tmp_path / place), graph)
        assert_equal(read_graph(str(tmp_path / place)), graph)
    (tmp_path / "net" / "model").rename(tmp_path / "renamed")
    assert_equal(read_graph(tmp_path / "renamed"), graph)
    monkeypatch.chdir(tmp_path / "renamed")
    assert_equal(read_graph("."), graph)
    write_graph(graph, ".")
    assert_equal(read_graph(tmp_path / "renamed"), graph)


def test_bare_newlines_are_read(tmp_path: Path) -> None:
    graph = bottleneck_resnet(blocks=(1, 1, 1, 1), **MINI)
    write_graph(graph, tmp_path)
    for path in (tmp_path / "model").iterdir():
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").rstrip(b"\n"))
    assert_equal(read_graph(tmp_path), graph)


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", ".hidden", "-x", "a b", "é", "x" * 201, "model", "npdata", "class_names"]
)
def test_names_that_are_no_file_names_are_refused(name: str, tmp_path: Path) -> None:
    graph = small_graph()
    renamed = Graph(graph.inputs, [replace(graph["q"], name=name)], [name])
    with pytest.raises(GraphError, match=r"file"):
        write_graph(renamed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_replaced_whole(tmp_path: Path) -> None:
    write_graph(bottleneck_resnet(blocks=(1, 1, 1, 1), **MINI), tmp_path)
    (tmp_path / "LICENSE").write_text("stays")
    write_graph(small_graph(), tmp_path)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["format_version", "model", "npdata", "q"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LICENSE", "model"]


def test_a_graph_can_be_written_over_its_own_files(tmp_path: Path) -> None:
    graph = small_graph()
    write_graph(graph, tmp_path)
    write_graph(read_graph(tmp_path), tmp_path)
    assert_equal(read_graph(tmp_path), graph)


@pytest.mark.parametrize("occupant", ["file", "folder", "broken model"])
def test_what_is_no_model_is_not_replaced(occupant: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    if occupant == "file":
        place.write_text("precious")
        place = place.parent / "model" / "model"
    else:
        place.mkdir()
        (place / ("model" if occupant == "broken model" else "notes")).write_text("precious")
    before = files_of(tmp_path)
    with pytest.raises(NybbleError):
        write_graph(small_graph(), place)
    assert files_of(tmp_path) == before


def test_a_full_disk_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = bottleneck_resnet(blocks=(1, 1, 1, 1), **MINI)
    write_graph(graph, tmp_path)
    before = files_of(tmp_path)
    write_bytes = Path.write_bytes
    written = []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NybbleError, match="No space left on device"):
        write_graph(small_graph(), tmp_path)
    assert len(written) == 3
    assert files_of(tmp_path) == before
    assert_equal(read_graph(tmp_path), graph)


def test_a_failed_rename_puts_the_old_model_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graph()
    write_graph(graph, tmp_path)
    before = files_of(tmp_path)
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(NybbleError, match="Input/output error"):
        write_graph(graph, tmp_path)
    assert files_of(tmp_path) == before
