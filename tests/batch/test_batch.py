"""Jobs over folders, lists, tar and Parquet files: rows, resuming, errors."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ensembles import HEAT, write_ensemble, write_member
from nybble.cli import app
from nybble.engine import load
from nybble.graph import Graph, read_graph, write_graph
from nybble.images import integer_input, load_photo
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

parquet = pytest.importorskip("pyarrow.parquet")
arrow = pytest.importorskip("pyarrow")

COUNT = 23
BROKEN = "07.png"
#: Jobs that are killed twice each; 25 for a series by hand.
KILLS = int(os.environ.get("NYBBLE_KILLS", "3"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    drawn = bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=10)
    names = [f"thing, {index}" for index in range(10)]
    graph = Graph(drawn.inputs, drawn.nodes, drawn.outputs, preprocessing=drawn.preprocessing, class_names=names)
    write_graph(graph, folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photos, of which one is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (folder / BROKEN).write_bytes(b"no photo")
    return folder


Run = Callable[..., Any]


@pytest.fixture
def run(model: Path) -> Run:
    def call(*arguments: object, code: int = 4) -> Any:
        done = CliRunner().invoke(app, ["batch", str(model), *map(str, arguments), "--threads", "1"])
        assert done.exit_code == code, done.output
        return done

    return call


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def read(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def expected(model: Path, photos: Path) -> list[list[tuple[int, str, float]] | None]:
    with load(model, threads=1) as engine:
        return [
            None if path.name == BROKEN else [tuple(each) for each in engine.classify([path], top=3)[0]]
            for path in sorted(photos.iterdir())
        ]


def found(row: dict[str, Any]) -> list[tuple[int, str, float]] | None:
    return None if row["error"] else list(zip(row["label"], row["name"], row["score"], strict=True))


def test_every_photo_has_a_row(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    """In each form of input and output, and whatever runs together."""
    answers = expected(model, photos)
    files = sorted(photos.iterdir())
    (tmp_path / "list.txt").write_text("".join(f"photos/{path.name}\n" for path in files))
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, part in enumerate((files[:10], files[10:])):
        with tarfile.open(shards / f"{number}.tar", "w") as archive:
            for path in part:
                archive.add(path, path.name)
                archive.addfile(tarfile.TarInfo(f"{path.stem}.cls"), io.BytesIO())
    tables = tmp_path / "tables"
    tables.mkdir()
    encoded = [path.read_bytes() for path in files]
    pairs = [{"bytes": each, "path": path.name} for each, path in zip(encoded, files, strict=True)]
    parquet.write_table(arrow.table({"id": range(10), "image": pairs[:10]}), tables / "a.parquet", row_group_size=4)
    parquet.write_table(arrow.table({"id": range(13), "image": pairs[10:]}), tables / "b.parquet", row_group_size=5)
    parquet.write_table(arrow.table({"cat": encoded}), tmp_path / "own.parquet")
    named = [f"photos/{path.name}" for path in files]
    parquet.write_table(arrow.table({"path": named}), tmp_path / "paths.parquet")

    inputs = {"photos": [], "list.txt": [], "shards": [], "tables": [], "own.parquet": ["--column", "cat"]}
    for number, (name, more) in enumerate({**inputs, "paths.parquet": []}.items()):
        out = tmp_path / "out" / name
        run(tmp_path / name, "--out", out, "--shard", 10, "--top", 3, "--batch", 1 + 3 * number, *more)
        rows = read(out)
        assert [row["index"] for row in rows] == list(range(COUNT))
        assert [found(row) for row in rows] == answers, name
        assert len(list(out.glob("part-*"))) == 3
    assert [row["file"] for row in read(tmp_path / "out" / "photos")] == [path.name for path in files]
    assert read(tmp_path / "out" / "shards")[10]["file"] == "1.tar/10.png"

    run(photos, "--out", tmp_path / "jsonl", "--top", 3, "--format", "jsonl")
    lines = (tmp_path / "jsonl" / "part-00000.jsonl").read_text().splitlines()
    assert [found(json.loads(line)) for line in lines] == answers
    run(photos, "--out", tmp_path / "csv", "--top", 3, "--format", "csv")
    with (tmp_path / "csv" / "part-00000.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row, answer in zip(table, answers, strict=True):
        places = [(row[f"label_{i}"], row[f"name_{i}"], row[f"score_{i}"]) for i in (1, 2, 3)]
        wanted = [("", "", "")] * 3 if answer is None else [(str(a), b, repr(c)) for a, b, c in answer]
        assert (places, bool(row["error"])) == (wanted, answer is None)


def test_embeddings_are_what_the_last_layer_reads(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    run(photos, "--out", tmp_path / "plain", "--shard", 10)
    run(photos, "--out", tmp_path / "out", "--shard", 10, "--embeddings")
    rows = read(tmp_path / "out")
    assert [found(row) for row in rows] == [found(row) for row in read(tmp_path / "plain")]
    graph = read_graph(model)
    (layer,) = (node for node in graph.nodes if node.op == "Linear")
    assert graph.preprocessing is not None
    sample = integer_input(load_photo(photos / "03.png", graph.preprocessing)[None], graph.preprocessing)
    values = interpret(graph, sample, keep=[layer.inputs[0]])[layer.inputs[0]]
    assert rows[3]["embedding"] == values.reshape(-1).tolist()
    assert rows[7]["embedding"] is None
    assert "no lists" in run(photos, "--out", tmp_path / "csv", "--embeddings", "--format", "csv", code=3).output


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_job_resumes_to_the_same_bytes(run: Run, model: Path, photos: Path, tmp_path: Path, seed: int) -> None:
    run(photos, "--out", tmp_path / "whole", "--shard", 4)
    draw = random.Random(seed)
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "nybble", "batch", str(model), str(photos), "--out", str(out), "--shard", "4"]
    for _ in range(2):
        process = subprocess.Popen([*command, "--resume", "--threads", "1"], stdout=subprocess.PIPE)
        # A random while after its first file is there.
        until = time.monotonic() + 60
        while process.poll() is None and not out.exists() and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    # A file that was being written.
    (out / ".part-00001.parquet.1.part").write_bytes(b"half")
    run(photos, "--out", out, "--shard", 4, "--resume")
    assert content(out) == content(tmp_path / "whole")


def test_a_job_killed_before_it_had_begun_resumes(run: Run, photos: Path, tmp_path: Path) -> None:
    """Its description was being written."""
    out = tmp_path / "out"
    out.mkdir()
    (out / ".job.json.1.part").write_bytes(b"{")
    run(photos, "--out", out, "--resume")
    assert sorted(content(out)) == ["job.json", "part-00000.parquet"]


def test_what_has_changed_is_named(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, "--out", out)
    before = content(out)
    assert "--resume goes on with it" in run(photos, "--out", out, code=3).output
    assert "0 done in this run" in run(photos, "--out", out, "--resume").output
    assert "has other settings" in run(photos, "--out", out, "--resume", "--top", 2, code=3).output
    os.utime(photos / "01.png", (1, 1))
    assert "the input has changed" in run(photos, "--out", out, "--resume", code=3).output
    done = CliRunner().invoke(app, ["batch", "efficientnet-lite0", str(photos), "--out", str(out), "--resume"])
    assert "is of another model" in done.output
    assert content(out) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "is not empty" in run(photos, "--out", tmp_path / "full", code=3).output


def test_an_ensemble_classifies(photos: Path, tmp_path: Path) -> None:
    """Members that look at different crops; the job is that of the file and of the members."""
    file, out = write_ensemble(tmp_path, image=40), tmp_path / "out"
    text = file.read_text()

    def run(*more: str) -> Any:
        return CliRunner().invoke(app, ["batch", str(file), str(photos), "--out", str(out), "--threads", "1", *more])

    assert run("--top", "3", "--batch", "5").exit_code == 4
    assert [found(row) for row in read(out)] == expected(file, photos)
    refused = run("--embeddings")
    assert (refused.exit_code, refused.output.count("\n")) == (3, 1)
    assert refused.output.startswith(f"error: {file}: an ensemble has no embeddings")

    resume = ("--top", "3", "--resume")
    file.write_text(f"# a remark\n{text}")
    assert "0 done in this run" in run(*resume).output
    file.write_text(text.replace(f"temperature = {HEAT}", "temperature = 1.0", 1))
    assert "is of another model" in run(*resume).output
    file.write_text(text)
    write_member(tmp_path / "net1", 5, 40)
    assert "is of another model" in run(*resume).output


def test_failed_photos_are_tried_again(run: Run, photos: Path, tmp_path: Path) -> None:
    """Where the input is a list, its photos may be mended while the list stays."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    paths = [str(photos / f"{number:02}.png") for number in range(COUNT)]
    good = (photos / "06.png").read_bytes()
    parquet.write_table(arrow.table({"path": paths}), tmp_path / "list.parquet")
    run(tmp_path / "list.parquet", "--out", out, "--shard", 5)
    (photos / BROKEN).write_bytes(good)
    assert "0 done" in run(tmp_path / "list.parquet", "--out", out, "--shard", 5, "--resume").output
    again = run(tmp_path / "list.parquet", "--out", out, "--shard", 5, "--retry-failed", code=0)
    assert f"{COUNT} photos, 0 with errors" in again.output and "5 done" in again.output
    run(tmp_path / "list.parquet", "--out", whole, "--shard", 5, code=0)
    assert content(out) == content(whole)


def test_too_many_failures_end_it(run: Run, photos: Path, tmp_path: Path) -> None:
    assert "more than --max-failure-rate 0.01" in run(
        photos, "--out", tmp_path / "out", "--max-failure-rate", 0.01, code=3
    ).output.replace("\n", " ")
    run(photos, "--out", tmp_path / "more", "--max-failure-rate", 0.05)


def test_one_process_at_a_time(run: Run, photos: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert "another process is at work" in run(photos, "--out", out, code=3).output
    os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        ("nowhere", [], "there is no such file"),
        ("photos", ["--column", "a"], "names a column of Parquet files"),
        ("bad.parquet", [], "cannot be read as Parquet"),
        ("other.parquet", [], "has no column 'image', but a"),
        ("bad.tar", [], "cannot be read as an uncompressed tar"),
    ],
)
def test_inputs_that_cannot_be_read(
    run: Run, photos: Path, tmp_path: Path, name: str, more: list[str], text: str
) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"x" * 100)
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    parquet.write_table(arrow.table({"a": [1]}), tmp_path / "other.parquet")
    assert text in run(tmp_path / name, "--out", tmp_path / "out", *more, code=3).output
