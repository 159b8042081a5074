"""The whole benchmark on a tiny network, its worst case, its processes and its pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nybble import _native
from nybble.bench import BenchError, Photos, Settings, bench, noise, peers, race, scaling
from nybble.bench.ceilings import LOOPS, loop_of, measure_ceilings
from nybble.bench.dense import dense_copy
from nybble.bench.isas import family
from nybble.bench.peers import PEERS, Kitchen, check_installed, installed
from nybble.bench.race import Contestant, Worker
from nybble.engine import Engine
from nybble.graph import Conv2d, DType, Graph, Preprocessing, Table, Tensor, write_graph
from nybble.synthetic import bottleneck_resnet

CLASSES = 10


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses and few rounds: nothing here depends on how fast anything is."""
    monkeypatch.setattr(race, "SETTLE", 0.0)
    monkeypatch.setattr(scaling, "SETTLE", 0.0)
    monkeypatch.setattr(scaling, "WINDOW", 0.001)
    monkeypatch.setattr(peers, "TRIALS", 1)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=CLASSES)


@pytest.fixture(scope="module")
def photos(graph: Graph) -> Photos:
    """Labelled as the network itself names them, which makes it right."""
    drawn = noise(10, _preprocessing(graph))
    with Engine(graph) as engine:
        labels = engine(drawn.samples).argmax(axis=1).tolist()
    return Photos(drawn.samples, labels, "10 drawn photos")


@pytest.fixture(scope="module")
def folder(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network")
    write_graph(graph, path)
    return path


def _preprocessing(graph: Graph) -> Preprocessing:
    assert graph.preprocessing is not None
    return graph.preprocessing


def _bench(graph: Graph, photos: Photos, cache: Path, **settings: Any) -> dict[str, Any]:
    chosen = Settings(**{"against": (), "bits": (4,), "batches": (1, 4), "seconds": 0.0, "turn": 8, **settings})
    return bench(graph, "tiny", photos, photos, chosen, cache)


def test_alone_it_measures_speed_latency_memory_and_top1(graph: Graph, photos: Photos, tmp_path: Path) -> None:
    result = _bench(graph, photos, tmp_path)
    assert json.loads(json.dumps(result, allow_nan=False))["rounds"] == 5
    assert [(run["contestant"], run["batch"]) for run in result["runs"]] == [
        ("nybble 4-bit", 1),
        ("nybble 4-bit", 4),
        ("nybble 4-bit, dense", 1),
        ("nybble 4-bit, dense", 4),
    ]
    for run in result["runs"]:
        assert len(run["images_per_second_spread"]["rounds"]) == 5
        assert run["top1"] == (1.0 if run["activations"] == "real" else None)
        # The interpreter, NumPy and a tiny network.
        assert run["peak_rss_bytes"] is None or 10e6 < run["peak_rss_bytes"] < 500e6
    assert result["dense_zero_share"] < 0.01
    assert result["ratios"]["int4_vs_int8"]["batch_1"] is None
    if any(name == scaling.LOOP for name, _, _ in _native.ceilings()):
        assert result["scaling"]["batch_1"] > 0
        assert result["scaling"]["best_batch_spread"]["batch"] in (1, 4)
    assert _bench(graph, photos, tmp_path, threads=1, batches=(1,), dense=False)["scaling"] is None


def test_peers_name_photos_as_the_float_network_does(graph: Graph, photos: Photos, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from nybble.graph.onnx import write_float_model

    model, samples = tmp_path / "float.onnx", tmp_path / "photos.u8"
    write_float_model(graph, model, plain=True)
    photos.samples.tofile(samples)
    answers = {}
    for engine in ("onnxruntime", "openvino", "torch"):
        if find_spec(engine) is None:
            continue
        for mode in ("latency", "throughput"):
            contestant = Contestant(f"{engine} {mode}", engine, 32, model, mode)
            with Worker(contestant, samples, photos.samples.shape[1:], _preprocessing(graph), 2) as worker:
                # The last batch is not full.
                answer = worker.run(range(10), 4)
            assert len(answer["latencies"]) == 3
            assert all(0 < seconds <= answer["seconds"] for seconds in answer["latencies"])
            answers[contestant.name] = answer["predictions"]
    first = next(iter(answers.values()))
    assert all(found == first for found in answers.values()), answers


def test_against_onnxruntime_the_ratios_are_there(
    graph: Graph, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from nybble.bench import onnx_int8

    monkeypatch.setattr(onnx_int8, "QDQ", {"u8s8": onnx_int8.QDQ["u8s8"]})
    result = _bench(graph, photos, tmp_path, against=("onnxruntime",), batches=(1,), dense=False)
    assert {run["contestant"] for run in result["runs"]} == {
        "nybble 4-bit",
        "onnxruntime FP32",
        "onnxruntime FP32, throughput",
        "onnxruntime INT8",
        "onnxruntime INT8, throughput",
    }
    assert result["int8_choices"]["onnxruntime"]["chosen"]["name"] == "u8s8"
    # Random weights: whether INT8 is right is chance, but float against float is not.
    assert (
        result["ratios"]["int4_vs_best_fp32"]["batch_1"] is None or result["ratios"]["int4_vs_best_fp32"]["batch_1"] > 0
    )
    if find_spec("matplotlib") is not None:
        from nybble.report.plots import write_plots

        threads = result["settings"]["threads"]
        result["ceilings"] = [
            {"name": "vpmaddubsw+vpaddw, L1", "isa": "avx2", "threads": threads, "unit": "GMAC/s", "best": 100.0},
            {"name": "read, L2", "isa": "avx2", "threads": threads, "unit": "GB/s", "best": 20.0},
        ]
        layer = {"name": "conv", "isa": "avx2", "macs": 900, "bytes": 30, "method": "sparse"}
        result["layers"] = [{**layer, "seconds": 1e-3, "gmacs_per_second": 80.0, "zero_share": 0.5}]
        written = write_plots(result, tmp_path / "plot")
        assert {path.name for path in written} == {
            f"plot-{kind}.{suffix}" for kind in ("throughput", "latency", "roofline") for suffix in ("png", "svg")
        }
        assert all(path.stat().st_size > 1000 for path in written)


def test_the_dense_copy_keeps_weights_and_has_no_zeros(graph: Graph, photos: Photos) -> None:
    dense, zeros = dense_copy(graph, photos.samples[:4])
    assert zeros < 0.005
    for node in graph:
        if isinstance(node, Conv2d):
            other = dense[node.name]
            assert isinstance(other, Conv2d)
            assert other.weight is node.weight
    known = _preprocessing(graph)
    integers = known.quantize(known.normalise(photos.samples[4:])).transpose(0, 3, 1, 2).copy()
    with Engine(dense) as engine:
        read = {step.source for step in engine.plan.steps if step.kind == "conv"} - {graph.inputs[0].name}
        values = engine.tap(integers)
    # Other photos than those that the biases were raised on.
    assert max(float((values[name] == 0).mean()) for name in read) < 0.2


def test_a_contestant_that_dies_says_why(graph: Graph, photos: Photos, tmp_path: Path) -> None:
    samples = tmp_path / "photos.u8"
    photos.samples.tofile(samples)
    contestant = Contestant("ours", "nybble", 4, tmp_path / "nothing")
    with pytest.raises(BenchError, match=r"ours stopped with exit code 1: .*nothing"):
        Worker(contestant, samples, photos.samples.shape[1:], _preprocessing(graph), 1)


def test_peers_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nybble.bench import errors

    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"--against torch needs the package torch, .* pip install torch"):
        check_installed(["torch"])
    with pytest.raises(BenchError, match="choose from onnxruntime, openvino, torch"):
        check_installed(["tensorrt"])
    check_installed(["all"])
    able, left_out = installed(["all"])
    assert able == []
    assert left_out.keys() == set(PEERS)
    assert all("\n" not in reason for reason in left_out.values())
    assert installed(["torch"]) == (["torch"], {})


def test_of_all_peers_one_that_cannot_run_the_network_is_left_out(
    graph: Graph, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def refuse(kitchen: Kitchen, peer: str) -> None:
        raise BenchError(f"{peer} cannot run this network in INT8: no layer for LSTM")

    monkeypatch.setattr(Kitchen, "int8", refuse)
    monkeypatch.setattr(peers, "PEERS", ("onnxruntime",))
    result = _bench(graph, photos, tmp_path, against=("all",), batches=(1,), dense=False, threads=1)
    assert result["settings"]["against"] == ["onnxruntime"]
    assert result["peers_left_out"] == {"onnxruntime": "onnxruntime cannot run this network in INT8: no layer for LSTM"}
    assert "onnxruntime FP32" in result["contestants"]
    assert result["int8_choices"] == {}
    with pytest.raises(BenchError, match="no layer for LSTM"):
        _bench(graph, photos, tmp_path, against=("onnxruntime",), batches=(1,), dense=False, threads=1)


def test_a_peer_without_a_float_form_is_held_against_one_that_has_it(
    graph: Graph, photos: Photos, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT: pip install 'nybble[bench]'")
    pytest.importorskip("onnxruntime")
    result = _bench(graph, photos, tmp_path, against=("litert",), batches=(1, 4), dense=False, threads=1)
    assert set(result["contestants"]) == {"nybble 4-bit", "onnxruntime FP32", "litert INT8", "litert INT8, throughput"}
    assert result["int8_choices"]["litert"]["chosen"]["name"] == "s8s8"
    assert result["int8_choices"]["litert"]["float_top1"] is not None
    assert result["peers_left_out"] == {}


def test_peers_run_a_float_network_that_is_given_and_only_its_int8_forms_race(
    graph: Graph, photos: Photos, tmp_path: Path
) -> None:
    """Another network than the graph's: what it answers shows who ran it."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT: pip install 'nybble[bench]'")
    from nybble.graph.onnx import write_float_model

    other = bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=CLASSES, seed=5)
    write_float_model(other, tmp_path / "other.onnx", plain=True)
    with Engine(other) as engine:
        agreement = float(np.mean(engine(photos.samples).argmax(axis=1) == np.array(photos.labels)))
    chosen = Settings(
        against=("litert",), batches=(1, 4), seconds=0.0, turn=8, threads=2, dense=False, fp32=False, scaling=False
    )
    cache = tmp_path / "cache"
    result = bench(graph, "tiny", photos, photos, chosen, cache, float_model=tmp_path / "other.onnx")
    contestants = {"nybble 4-bit", "nybble 8-bit", "onnxruntime FP32", "litert INT8", "litert INT8, throughput"}
    assert set(result["contestants"]) == contestants
    assert result["float_network"] == "other.onnx"
    assert result["looks_up_tables"] is False
    assert result["scaling"] is None
    top1 = {run["contestant"]: run["top1"] for run in result["runs"]}
    assert top1["nybble 4-bit"] == 1.0
    # The other network in float; rounding to codes changes few of its ten answers.
    assert top1["onnxruntime FP32"] < 1.0
    assert abs(top1["onnxruntime FP32"] - agreement) <= 0.3


def test_functions_of_a_network_are_looked_up_by_peers(photos: Photos, graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    entry = graph.inputs[0]
    table = Table(
        name="table",
        inputs=(entry.name,),
        input_type=entry.dtype,
        output_type=entry.dtype,
        table=Tensor.from_array(DType.S16, np.arange(entry.dtype.minimum, entry.dtype.maximum + 1)),
    )
    tiny = Graph(graph.inputs, (table,), ("table",), preprocessing=_preprocessing(graph))
    assert Kitchen(tiny, tmp_path, photos, 1, None).looks_up()
    assert not Kitchen(graph, tmp_path, photos, 1, None).looks_up()


def test_a_peer_without_an_int8_form_takes_no_part_where_floats_do_not(
    graph: Graph, photos: Photos, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    result = _bench(graph, photos, tmp_path, against=("torch",), batches=(1,), dense=False, threads=1, fp32=False)
    assert set(result["contestants"]) == {"nybble 4-bit", "onnxruntime FP32"}
    assert result["peers_left_out"] == {"torch": "runs in float only"}


def test_every_method_but_one_has_a_ceiling() -> None:
    """On each instruction set that this machine has loops of; a loop that is renamed would leave a roofline bare."""
    loops: dict[str, set[str]] = {}
    for name, isa, _ in _native.ceilings():
        loops.setdefault(isa, set()).add(name.partition(", ")[0])
    for isa, names in loops.items():
        # VNNI only adds to what it is built on.
        known = set().union(*(loops.get(each, set()) for each in family(isa)))
        assert names <= known
        for method in (*LOOPS, "direct"):
            assert (loop_of(method, isa) in known) == (method != "direct"), (method, isa)
    assert loop_of(None, "avx2") is None


def test_ceilings_are_positive_and_bad_arguments_are_refused() -> None:
    for ceiling in measure_ceilings((1,), windows=1, seconds=0.001):
        assert ceiling.best > 0
    with pytest.raises(ValueError, match="threads"):
        _native.measure_ceiling("read, L2", "scalar", 0, 0.1)
    with pytest.raises(ValueError, match="seconds"):
        _native.measure_ceiling("read, L2", "scalar", 1, float("nan"))
    with pytest.raises(ValueError, match="no ceiling 'nothing'"):
        _native.measure_ceiling("nothing", "scalar", 1, 0.1)


# What a shell starts in the background ignores interrupts, and so would all that it starts in turn.
_RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from nybble.cli import app; app()"


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", _RUN, "bench", *map(str, arguments)]


def test_the_command_writes_json(folder: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = _command(folder, "--limit", 8, "--seconds", 0, "--batch", 1, "--no-dense", "--output", result)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    assert done.stderr == ""
    assert json.loads(result.read_text())["runs"][0]["contestant"] == "nybble 4-bit"
    done = subprocess.run([*command[:-2], "--json"], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout).keys() == json.loads(result.read_text()).keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a MODEL"),
        (["MODEL", "--against", "tensorrt"], "choose from onnxruntime"),
        (["MODEL", "--peer-isa", "mmx"], "choose from avx2"),
        (["MODEL", "--isa", "mmx"], "this machine has"),
        (["MODEL", "--bits", "3"], "choose 4 or 8"),
        (["MODEL", "--output", "/nowhere/at/all.json"], "there is no folder"),
        (["MODEL", "--float-model", "/nowhere/at/all.onnx"], "there is no such file"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    from typer.testing import CliRunner

    from nybble.cli import app

    monkeypatch.delenv("NYBBLE_TRACEBACK", raising=False)
    given = [str(folder) if part == "MODEL" else part for part in arguments]
    answer = CliRunner().invoke(app, ["bench", *given])
    assert answer.exit_code == (3 if "/nowhere/" in " ".join(arguments) else 2)
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_an_interrupt_ends_every_process_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = _command(folder, "--limit", 8, "--seconds", 60, "--no-dense", "--output", result)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        workers = _children(process.pid)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in complaints
    assert not result.exists()
    assert list(tmp_path.iterdir()) == []
    assert all(not Path(f"/proc/{worker}").exists() for worker in workers)


def _children(parent: int) -> list[int]:
    """The processes of the contestants, once there is one."""
    if not Path(f"/proc/{parent}/task").is_dir():
        pytest.skip("needs /proc")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if found:
            # Past loading, so that the interrupt finds the rounds.
            time.sleep(2)
            return [int(pid) for pid in found]
        time.sleep(0.05)
    raise AssertionError("no contestant was started")


def test_noise_has_the_shape_of_the_networks_photos() -> None:
    drawn = noise(3, Preprocessing(resize=40, crop=(30, 20)))
    assert drawn.samples.shape == (3, 30, 20, 3)
    assert drawn.samples.dtype == np.uint8
    assert len(drawn[:2]) == 2
