"""``nybble quantize`` on a tiny network and tiny photos: the whole way, killed and resumed, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

if os.environ.get("CI") or os.environ.get("NYBBLE_REQUIRE_DATA") == "1":
    import torch
else:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'nybble[quantize]'")

from sources_to_quantize import CLASSES, small, stripes
from typer.testing import CliRunner

import nybble
from nybble.cli import app
from nybble.cli.exit_codes import ExitCode
from nybble.graph import Linear, read_graph
from nybble.images import load_photo
from nybble.quantize.pipeline import post

#: The photos of `images` have one among them that cannot be decoded.
LEFT_OUT = ExitCode.LEFT_OUT
SOURCE = "sources_to_quantize:small"
SETTINGS: dict[str, Any] = {
    "calibration": {"workers": 0, "batch": 16},
    "training": {
        "workers": 0,
        "batch": 8,
        "epochs": 3,
        "learning_rate": 0.02,
        "range_batches": 2,
        "save_every": 2,
        "augmentation": {"crop": "centre", "flip": 0},
    },
}
pytestmark = pytest.mark.usefixtures("quick_quantization")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 photos in a folder per class; one more is not a photo."""
    folder = stripes(tmp_path_factory.mktemp("images"), 72)
    (folder / "kind0" / "broken.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("val"), 24, seed=1, table=True)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments), "--threads", "1"])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_float_onnx_file(images: Path, settings: Path, val: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'nybble[onnx]'")
    file = tmp_path / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small().eval(), (torch.zeros(2, 3, 8, 8),), str(file), dynamo=False)
    common = ("--images", images, "--val", val, "--config", settings, "--epochs", 0)
    preprocessing = ("--resize", 8, "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    results = []
    for name, source, given in (("file", file, preprocessing), ("module", SOURCE, ())):
        found = call(source, *common, *given, "--out", tmp_path / name, "--json")
        assert found.exit_code == LEFT_OUT, found.output
        results.append(json.loads(found.stdout))
    (first, _, engine), (float_module, _, engine_module) = (result["stages"] for result in results)
    assert (first["top1_right"], engine["top1_right"]) == (float_module["top1_right"], engine_module["top1_right"])
    graphs = [read_graph(tmp_path / name) for name in ("file", "module")]
    assert [node.op for node in graphs[0]] == [node.op for node in graphs[1]]
    assert graphs[0].preprocessing == graphs[1].preprocessing
    file.write_bytes(file.read_bytes()[:-40])
    found = call(file, *common, "--out", tmp_path / "damaged")
    assert found.exit_code == 3 and "small.onnx: is not an ONNX model" in found.stderr


def test_a_module_in_bfloat16_with_several_outputs(images: Path, settings: Path, val: Path, tmp_path: Path) -> None:
    """Its probabilities become logits; as a teacher as well."""
    common = ("sources_to_quantize:Several", "--images", images, "--val", val, "--config", settings, "--epochs", 1)
    found = call(*common, "--out", tmp_path / "out")
    assert found.exit_code != 0
    assert "Several: returns 2 values; choose the logits" in found.stderr and "other (N, 4)" in found.stderr
    found = call(*common, "--output", "shares", "--out", tmp_path / "out", "--json")
    assert found.exit_code == LEFT_OUT, found.output
    first, calibrated = json.loads(found.stdout)["stages"][:2]
    assert abs(first["top1_right"] - calibrated["top1_right"]) <= 3


def test_from_float_to_integer_and_again_from_the_settings_it_wrote(
    images: Path, settings: Path, val: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out", tmp_path / "report"
    common = (SOURCE, "--images", images, "--val", val)
    found = call(*common, "--config", settings, "--out", out, "--report", report, "--json")
    assert found.exit_code == LEFT_OUT, found.output
    result = json.loads(found.stdout)
    assert [stage["name"] for stage in result["stages"]] == ["float", "calibrated", "fine-tuned", "integer engine"]
    first, _, tuned, engine = result["stages"]
    assert result["kept"] == "fine-tuned"
    assert all(stage["images"] == 24 and len(stage["top1_interval"]) == 2 for stage in result["stages"])
    # The weights are drawn: training has made it right, and integers keep that.
    assert tuned["top1"] > first["top1"] + 0.2
    assert engine["against_float"]["this_only"] - engine["against_float"]["float_only"] == (
        engine["top1_right"] - first["top1_right"]
    )
    assert result["same_top1_as_fake_quantized"] >= 23 / 24
    assert engine["images_per_second"] > 0 and first["images_per_second"] > 0 and tuned["images_per_second"] is None
    assert 0 < engine["bytes"] < first["bytes"] / 4
    assert result["images"] == {"train": 73, "selection": 24, "selection_origin": str(val)}
    assert result["photos"]["calibration"]["failed"][0]["name"] == "kind0/broken.jpg"
    assert [row["epoch"] for row in result["training"]] == [1, 2, 3]
    assert json.loads((out / "result.json").read_text()) == result
    assert {path.name for path in report.iterdir()} == {
        "calibration.json",
        "curves.png",
        "histograms.png",
        "layers.csv",
        "layers.png",
        "metrics.csv",
        "result.json",
        "worst.csv",
    }
    layers = (report / "layers.csv").read_text().splitlines()
    assert len(layers) == 1 + 3 + 2 and layers[0].startswith("name,kind,type,alone,network,integer")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    loaded = nybble.load(out, threads=1)
    assert loaded.graph.class_names == tuple(f"kind{label}" for label in range(CLASSES))
    photos = np.stack([load_photo(val / f"{index}.png", loaded.graph.preprocessing) for index in range(24)])
    right = (loaded(photos).argmax(1) == np.arange(24) % CLASSES).sum()
    assert right == engine["top1_right"]

    again = call(*common, "--config", out / "quantize.yaml", "--out", tmp_path / "again")
    assert again.exit_code == LEFT_OUT, again.output
    assert content(tmp_path / "again" / "model") == content(out / "model")
    assert (tmp_path / "again" / "quantize.yaml").read_bytes() == (out / "quantize.yaml").read_bytes()


def test_post_training_ends_with_a_table(images: Path, settings: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    arguments = (SOURCE, "--images", images, "--config", settings, "--epochs", 0, "--bits", "w8a8", "--seed", 5)
    found = call(*arguments, "--out", out, "--work", work)
    assert found.exit_code == LEFT_OUT, found.output
    lines = found.stdout.splitlines()
    columns = ["network", "top-1", "95", "%", "interval", "points", "lost", "won", "size", "images/s"]
    assert lines[0].split() == columns
    rows = [line.split("  ")[0] for line in lines[2:5]]
    assert rows == ["float", "calibrated", "integer engine"]
    assert "MB" in lines[2] and "MB" in lines[4] and "MB" not in lines[3]
    assert any(line.startswith("integer engine against float: ") and "McNemar p = " in line for line in lines)
    assert f"top-1 on 7 photos (0.1 of {images}, split off under seed 5); 66 to calibrate with" in lines
    assert any(line.startswith("calibration: 1 photo could not be used, kind0/broken.jpg") for line in lines)
    assert lines[-1] == f"in {out}"
    assert (work / "calibration.pt").is_file() and not (work / "training").exists()
    resolved = yaml.safe_load((out / "quantize.yaml").read_text())
    assert resolved["layers"] == {name: {"weight_bits": 8} for name in ("0", "3", "6")}
    assert resolved["preprocessing"]["crop"] == [8, 8] and resolved["calibration"]["seed"] == 5
    assert all(str(node.weight.dtype) == "s8" for node in read_graph(out) if isinstance(node, Linear))


def test_killed_and_started_again_it_ends_with_the_same_network(
    images: Path, settings: Path, val: Path, tmp_path: Path
) -> None:
    common = [SOURCE, "--images", str(images), "--val", str(val), "--config", str(settings)]
    undisturbed = call(*common, "--out", tmp_path / "undisturbed")
    assert undisturbed.exit_code == LEFT_OUT, undisturbed.output

    out, work = tmp_path / "out", tmp_path / "work"
    code = (
        "import sys; sys.modules['torch.utils.tensorboard'] = None; import torch; torch.set_num_threads(1);"
        "import nybble.quantize.train.checkpoint as checkpoint, nybble.quantize.atomic as atomic, time;"
        "save = atomic.save;"
        # Slow enough to be killed between two checkpoints.
        "atomic.save = lambda path, state: (save(path, state), time.sleep(0.2));"
        "from nybble.cli import app; app()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "quantize",
        *common,
        "--out",
        str(out),
        "--work",
        str(work),
        "--threads",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for number, exit_code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        last = work / "training" / "last.pt"
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not last.exists() or last.stat().st_mtime_ns == before:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == exit_code, errors
        assert not out.exists()
    assert "the same call goes on from there" in errors and "Traceback" not in errors

    resumed = call(*common, "--out", out, "--work", work)
    assert resumed.exit_code == LEFT_OUT, resumed.output
    assert content(out / "model") == content(tmp_path / "undisturbed" / "model")


def test_where_training_makes_it_worse_the_calibrated_network_stays(images: Path, val: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    harmful = SETTINGS["training"] | {"learning_rate": 30.0, "epochs": 1, "clip_norm": 1.0, "warmup_epochs": 0}
    settings.write_text(yaml.safe_dump(SETTINGS | {"training": harmful}))
    common = (SOURCE, "--images", images, "--val", val, "--config", settings)
    found = call(*common, "--out", tmp_path / "out", "--json")
    assert found.exit_code == LEFT_OUT, found.output
    result = json.loads(found.stdout)
    _, calibrated, tuned, engine = result["stages"]
    assert tuned["top1"] < calibrated["top1"] and result["kept"] == "calibrated"
    assert abs(engine["top1_right"] - calibrated["top1_right"]) <= 1
    plain = call(*common, "--epochs", 0, "--out", tmp_path / "plain")
    assert plain.exit_code == LEFT_OUT, plain.output
    assert content(tmp_path / "plain" / "model") == content(tmp_path / "out" / "model")


def test_a_model_directory_is_trained_further(images: Path, tmp_path: Path) -> None:
    first, second, settings = tmp_path / "first", tmp_path / "second", tmp_path / "blocks.yaml"
    following = SETTINGS["training"] | {"distillation": 0.5, "features": 1.0}
    settings.write_text(yaml.safe_dump(SETTINGS | {"training": following}))
    found = call(SOURCE, "--images", images, "--config", settings, "--epochs", 1, "--out", first)
    assert found.exit_code == LEFT_OUT, found.output
    found = call(first, "--images", images, "--config", settings, "--epochs", 1, "--method", "lsq", "--out", second)
    assert found.exit_code == LEFT_OUT, found.output
    assert [line.split("  ")[0] for line in found.stdout.splitlines()[2:6]] == [
        "float",
        "as given",
        "fine-tuned",
        "integer engine",
    ]
    assert len(read_graph(second)) == len(read_graph(first))
    refused = call(first, "--images", images, "--epochs", 0, "--out", tmp_path / "third")
    assert refused.exit_code == 3 and "is quantized already" in refused.stderr


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of configurations and folders of photos with one fault each."""
    root = tmp_path_factory.mktemp("faults")
    (root / "listed.yaml").write_text("bits: w8a8\nlayers: {'0': {weight_bits: 8}}\n")
    (root / "misspelt.yaml").write_text("trainning: {}\n")
    photo = Image.new("RGB", (8, 8))
    for name in ("taken", "empty", "unlabelled", "beyond", *(f"three/other{label}" for label in range(3))):
        (root / name).mkdir(parents=True)
        for index in range(0 if name == "empty" else 8):
            photo.save(root / name / f"{index}.png")
    rows = [f"{index}.png,{index % 3 * 2}" for index in range(8)]
    (root / "beyond" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    for index in range(16):
        broken = root / "broken" / f"kind{index % CLASSES}" / f"{index}-no-photo.png"
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "is not a model directory", "torchvision:NAME"]),
        (["torchvision:resnet51"], ["no such network", "similar: resnet"]),
        (["sources_to_quantize:Sine"], ["sources_to_quantize.py:", "aten.sin", "return torch.sin"]),
        ([SOURCE, "--bits", "w4a4", "--config", "listed.yaml"], ["--bits w4a4 has no effect", "listed.yaml"]),
        ([SOURCE, "--config", "misspelt.yaml"], ["misspelt.yaml", "trainning"]),
        ([SOURCE, "--bits", "w4a8", "--speed", "2"], ["--bits mixed, not w4a8"]),
        ([SOURCE, "--min-accuracy", "70", "--speed", "2"], ["one of --min-accuracy, --speed and --four-bit-share"]),
        ([SOURCE, "--min-accuracy", "70", "--config", "listed.yaml"], ["--bits mixed has no effect", "listed.yaml"]),
        ([SOURCE, "--mean", "a,b"], ["--mean a,b", "0.485,0.456,0.406"]),
        ([SOURCE, "--resize", "4"], ["preprocessing.crop", "(8, 8)", "4"]),
        ([SOURCE, "--out", "taken"], ["taken", "exists already and is not overwritten"]),
        ([SOURCE, "--images", "missing"], ["missing", "no such file or folder"]),
        ([SOURCE, "--images", "empty"], ["empty", "holds no photos"]),
        ([SOURCE, "--images", "unlabelled"], ["unlabelled", "no labels", "fine-tuning", "--epochs 0"]),
        (
            [SOURCE, "--images", "three", "--config", "listed.yaml"],
            ["three", "3 classes", "4 classes", "labels.csv"],
        ),
        ([SOURCE, "--images", "broken", "--epochs", "0"], ["none of", "no-photo.png"]),
        ([SOURCE, "--images", "beyond"], ["beyond", "2.png", "label 4 is not in 0..3"]),
        ([SOURCE, "--val", "three"], ["three", "not those of"]),
        ([SOURCE, "--val", "unlabelled"], ["unlabelled", "no labels"]),
        (
            [SOURCE, "--images", "unlabelled", "--epochs", "0", "--min-accuracy", "70"],
            ["unlabelled", "no labels", "--min-accuracy"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    images: Path, faults: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(faults)
    options = {"--images": images, "--out": tmp_path / "out"}
    rest = [word for name, value in options.items() if name not in arguments for word in (name, value)]
    found = call(*arguments, *rest)
    # Options that contradict each other are wrong usage.
    assert found.exit_code == (ExitCode.USAGE if "--" in words[0] else ExitCode.ERROR), found.output
    assert found.stderr.startswith("error: ") and found.stderr.count("\n") == 1
    assert all(word in found.stderr for word in words), found.stderr
    assert not list(tmp_path.iterdir()), "a refused run leaves nothing behind"


def test_without_torch_it_says_what_to_install(nybble_process: Any, images: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util; find = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = nybble_process("quantize", SOURCE, "--images", images, "--out", tmp_path / "out", env=environment)
    assert found.returncode == 3
    assert found.stderr == "error: quantizing needs torch: pip install 'nybble[quantize]'\n"


@pytest.mark.parametrize("budget", [("--speed", "1"), ("--min-accuracy", "10")])
def test_bits_are_chosen_within_a_budget(
    images: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: tuple[str, str]
) -> None:
    # By what the layers take: the whole of so small a network, timed again, may seem slower than itself.
    monkeypatch.setattr(post, "network_timer", lambda *_: None)
    out, work = tmp_path / "out", tmp_path / "work"
    arguments = (SOURCE, "--images", images, "--config", settings, "--epochs", 0, "--work", work, *budget)
    found = call(*arguments, "--out", out, "--json")
    assert found.exit_code == LEFT_OUT, found.output
    chosen = json.loads(found.stdout)["details"]["bits"]
    assert chosen["groups"] == 1 and len(chosen["four_bits"]) in (0, 1)
    resolved = yaml.safe_load((out / "quantize.yaml").read_text())
    assert resolved["bits"] == "mixed" and resolved["min_accuracy"] is resolved["speed"] is None
    assert resolved["layers"]["3"]["weight_bits"] == (4 if chosen["four_bits"] else 8)
    # The choice is remembered, whatever the engine's times are the next time.
    again = call(*arguments, "--out", tmp_path / "again", "--json")
    assert json.loads(again.stdout)["details"]["bits"] == chosen
    assert content(tmp_path / "again" / "model") == content(out / "model")


def test_rounding_is_learned_without_labels(images: Path, val: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    content = SETTINGS | {"equalize": True, "reconstruction": {"iterations": 20, "batch": 8}}
    settings.write_text(yaml.safe_dump(content))
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    for index, path in enumerate(sorted(images.rglob("*.png"))):
        (unlabelled / f"{index}.png").write_bytes(path.read_bytes())
    arguments = (SOURCE, "--images", unlabelled, "--val", val, "--config", settings, "--method", "reconstruct")
    found = call(*arguments, "--out", tmp_path / "out", "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert [stage["name"] for stage in result["stages"]] == ["float", "calibrated", "integer engine"]
    assert result["details"]["equalized"]
    refused = call(*arguments, "--epochs", 1, "--out", tmp_path / "trained")
    assert refused.exit_code == 3 and "no labels, which are needed for fine-tuning" in refused.stderr


def test_weights_come_from_a_file(images: Path, settings: Path, tmp_path: Path) -> None:
    module = small()
    with torch.no_grad():
        module[6].bias[2] += 100
    torch.save({"state_dict": module.state_dict()}, tmp_path / "weights.pth")
    out = tmp_path / "out"
    source = f"{SOURCE}@{tmp_path / 'weights.pth'}"
    found = call(source, "--images", images, "--config", settings, "--epochs", 0, "--out", out, "--json")
    assert found.exit_code == LEFT_OUT, found.output
    # Whatever is on a photo, the answer is class 2.
    assert {stage["top1"] for stage in json.loads(found.stdout)["stages"]} == {2 / 7}


def test_channels_behind_a_relu6_are_fitted(images: Path, tmp_path: Path) -> None:
    settings = tmp_path / "fitted.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS | {"fit_channels": True}))
    source, out = "sources_to_quantize:clipped", tmp_path / "out"
    found = call(source, "--images", images, "--config", settings, "--epochs", 0, "--out", out, "--json")
    assert found.exit_code == LEFT_OUT, found.output
    ((_, smallest, largest),) = json.loads(found.stdout)["details"]["fitted_channels"]
    assert 0 < smallest < largest <= 6
    refused = call(out, "--images", images, "--config", settings, "--epochs", 1, "--out", tmp_path / "again")
    assert refused.exit_code == 3 and "start from the float network" in refused.stderr


def test_random_weights_are_those_of_the_seed_so_a_run_goes_on(
    images: Path, settings: Path, val: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes of their own, where the generators start anywhere."""
    common = ["sources_to_quantize:untrained", "--images", str(images), "--val", str(val), "--config", str(settings)]
    code = (
        "import sys; sys.modules['torch.utils.tensorboard'] = None; import torch; torch.set_num_threads(1);"
        "from nybble.quantize.pipeline import measure; measure._SECONDS = 0.001; from nybble.cli import app; app()"
    )
    work = tmp_path / "work"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for name in ("first", "again"):
        options = ["--epochs", "0", "--work", str(work), "--threads", "1", "--out", str(tmp_path / name)]
        command = [sys.executable, "-c", code, "quantize", *common, *options]
        found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert found.returncode == LEFT_OUT, found.stderr
        assert found.stderr.splitlines() == [
            "warning: sources_to_quantize:untrained has random weights (seed 0); give trained ones as "
            "sources_to_quantize:untrained@WEIGHTS",
            "warning: kind0/broken.jpg: is not an image that Pillow can read; left out",
        ]
        times = {path.name: path.stat().st_mtime_ns for path in work.glob("*.pt")}
        if name == "first":
            before = times
    assert "float.pt" in before and times == before
    assert content(tmp_path / "first" / "model") == content(tmp_path / "again" / "model")


def test_a_second_run_in_a_work_folder_is_refused(images: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    code = (
        "import time; from pathlib import Path; from nybble.quantize.pipeline.lock import locked\n"
        f"with locked(Path({str(work)!r})):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            found = call(SOURCE, "--images", images, "--out", tmp_path / "out", "--work", work)
        finally:
            process.kill()
    assert found.exit_code == 3 and not (tmp_path / "out").exists()
    assert found.stderr.startswith(f"error: {work}: process {process.pid} is at work there;")
    assert found.stderr.count("\n") == 1 and [path.name for path in work.iterdir()] == ["lock"]
