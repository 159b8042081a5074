"""The file ``task`` and the newer keys of ``preprocessing``: written, read, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nybble.graph import (
    Classify,
    Detect,
    DType,
    Embed,
    Graph,
    GraphError,
    Input,
    ModelFormatError,
    Preprocessing,
    Restore,
    Segment,
    Task,
    Tensor,
    Text,
    read_graph,
    write_graph,
)
from nybble.graph.onnx.metadata import properties, read_metadata
from nybble.graph.task_file import task_fields, task_of_fields

ANCHORS = Tensor.from_array(DType.F32, np.random.default_rng(0).random((5, 4)).astype(np.float32))
TASKS = [
    Classify("x"),
    Segment("x", void=2, palette=("000000", "ff8000")),
    Segment("x", threshold=-0.5),
    Restore("x", form="residual", output_scale=0.25),
    Embed("x", normalise=False),
    Text("x", function="sigmoid", threshold=0.25, shortest=2.5),
    Detect(3, ("x",), ("x",), ("x",), box_first=1, score_first=5, strides=(16,), centre="tanh", score_power=0.4),
    Detect(3, ("x",), ("x",), form="anchors", anchors=ANCHORS, variances=(0.1, 0.1, 0.2, 0.2), background=0),
    Detect(3, ("x",), ("x",), form="distances", strides=(8,), bins=8, best_class=True, nms_threshold=0.6),
    Detect(3, ("x",), ("x",), form="corners", unit="image", maximum=7, score_function="sigmoid"),
]
FITTINGS = [
    {"channel_order": "BGR"},
    {"fit": "stretch"},
    {"fit": "letterbox"},
    {"fit": "letterbox", "fill": 0, "placement": "centre", "channel_order": "BGR"},
    {"fit": "none"},
]


def graph(task: Task | None = None, **options: object) -> Graph:
    entry = Input(name="x", dtype=DType.S8, shape=(3, 8, 12))
    preprocessing = Preprocessing(crop=(8, 12), **{"resize": 12, **options})  # type: ignore[arg-type]
    return Graph([entry], [], ["x"], preprocessing=preprocessing, task=task)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_tasks_survive_the_directory(task: Task, tmp_path: Path) -> None:
    write_graph(graph(task), tmp_path)
    found = read_graph(tmp_path).task
    assert found is not None and task_fields(found) == task_fields(task)
    assert "version=3" in (tmp_path / "model" / "format_version").read_text()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_tasks_survive_onnx_metadata(task: Task) -> None:
    found = read_metadata(properties(graph(task), "exact")).task
    assert found is not None and task_fields(found) == task_fields(task)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_fields_of_tasks_survive_json(task: Task) -> None:
    held = task_fields(task)
    assert json.loads(json.dumps(held)) == held
    assert task_fields(task_of_fields(held)) == held


@pytest.mark.parametrize("options", FITTINGS, ids=str)
def test_fittings_survive(options: dict[str, object], tmp_path: Path) -> None:
    made = graph(**options)
    write_graph(made, tmp_path)
    assert read_graph(tmp_path).preprocessing == made.preprocessing
    assert "version=3" in (tmp_path / "model" / "format_version").read_text()
    assert read_metadata(properties(made, "exact")).preprocessing == made.preprocessing


def test_the_older_form_stays(tmp_path: Path) -> None:
    write_graph(graph(), tmp_path)
    assert "version=1" in (tmp_path / "model" / "format_version").read_text()
    assert "fit" not in (tmp_path / "model" / "preprocessing").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "cover"}, "unknown fit 'cover'"),
        ({"channel_order": "GBR"}, "unknown channel_order 'GBR'"),
        ({"channel_order": "BGR", "mean": (0.5,), "std": (1.0,)}, "one channel have no channel_order"),
        ({"fit": "stretch", "fill": 3}, "fill is for fit=letterbox"),
        ({"placement": "corner"}, "placement is for fit=letterbox"),
        ({"fit": "letterbox", "fill": 256}, "fill=256 is not a sample"),
        ({"fit": "letterbox", "placement": "left"}, "unknown placement 'left'"),
        ({"fit": "none", "crop": (0, 3)}, "is not a size"),
    ],
)
def test_fittings_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Preprocessing(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 0}, "classes: 0 is not in 1"),
        ({"boxes": ()}, "boxes: names no output"),
        ({"scores": ("x", "x")}, "scores: names 2 outputs, but boxes names 1"),
        ({"objectness": ("x", "x")}, "objectness: names 2 outputs"),
        ({"variances": (1.0,)}, "variances: needs four"),
        ({"strides": ()}, "strides: is needed"),
        ({"form": "corners"}, "strides: is needed"),
        ({"form": "anchors", "strides": ()}, "anchors: is needed"),
        ({"anchors": ANCHORS}, "anchors: is needed"),
        ({"bins": 4}, "bins: is for form=distances"),
        ({"background": 4}, "background: 4 is not"),
        ({"layout": "cubes"}, "layout: unknown value 'cubes'"),
        ({"nms_threshold": 1.5}, "nms_threshold: 1.5 is not in"),
        ({"score_power": float("nan")}, "score_power: nan is not in"),
        ({"classes": 1, "score_function": "softmax"}, "softmax needs two"),
    ],
)
def test_detectors_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    good = Detect(3, ("x",), ("x",), strides=(8,))
    with pytest.raises(GraphError, match=message):
        replace(good, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("Segment", "Sediment", r"task:1: unknown task 'Sediment' \(known: Classify, "),
        ("output=x", "output=y", r"task:1: the task segment reads 'y', which is not an output \(outputs: x\)"),
        ("output=x\r\n", "", "task:1: Segment lacks the key output"),
        ("void=2", "void=999", r"task:3: void: 999 is not in -1\.\.255"),
        ("void=2", "colour=2", "task:3: unknown key 'colour' for Segment"),
        ("void=2", "palette=1:red", "task:3: palette: 'red' is not a colour"),
    ],
)
def test_broken_files(before: str, after: str, message: str, tmp_path: Path) -> None:
    write_graph(graph(Segment("x", void=2)), tmp_path)
    file = tmp_path / "model" / "task"
    text = file.read_bytes().decode()
    assert before in text
    file.write_bytes(text.replace(before, after).encode())
    with pytest.raises(ModelFormatError, match=message):
        read_graph(tmp_path)


def test_class_names_are_the_tasks() -> None:
    entry = Input(name="x", dtype=DType.S8, shape=(15, 8, 12))
    detect = Detect(10, ("x",), ("x",), score_first=5, strides=(8,))
    assert Graph([entry], [], ["x"], task=detect, class_names=list("abcdefghij")).class_names is not None
    with pytest.raises(GraphError, match="15 class names, but the task detect has 10 classes"):
        Graph([entry], [], ["x"], task=detect, class_names=["name"] * 15)
    with pytest.raises(GraphError, match="the task restore has no classes"):
        Graph([entry], [], ["x"], task=Restore("x"), class_names=["name"] * 15)


def test_an_older_directory_may_call_a_node_task(tmp_path: Path) -> None:
    older = tmp_path / "model"
    older.mkdir()
    (older / "model").write_text("Graph\ninput.x=u8,3:3 8 12\nnode.task=1:x\noutputs=1:task\n")
    (older / "task").write_text(
        "MaxPool2d\ncompute_mode=u8u8\nkernel_size=2\nstride=2\npadding=0\ndilation=1\nreturn_indices=False\n"
        "ceil_mode=False\n"
    )
    (older / "format_version").write_text("FormatVersion\nversion=2\n")
    assert read_graph(older).task is None
    with pytest.raises(GraphError, match="rename the node"):
        write_graph(read_graph(older), tmp_path / "new")
    (older / "format_version").write_text("FormatVersion\nversion=3\n")
    with pytest.raises(ModelFormatError, match="unknown task 'MaxPool2d'"):
        read_graph(older)
