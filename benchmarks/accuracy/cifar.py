"""CIFAR-10 in JPEG files, ResNet-20: float fine-tuned, then W8A8 and W4A4, with training and without.

``python benchmarks/accuracy/cifar.py STAGE...``

The published float weights know lossless images only, so the float network is fine-tuned first. Of the 50,000 training
images 5,000 are held out and everything is chosen on them (they did belong to what the published weights were trained
on, so figures on them are higher than on the test set). ``final`` runs the 10,000 test images, once.
"""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

import resnet20
import torch
from cifar_data import SEED, photos, training
from engine_module import EngineModule
from float_training import train
from records import DATA, WORK, Progress, figures, stage

from nybble.graph import read_graph, write_graph
from nybble.quantize import (
    Bits,
    CalibrationConfig,
    QuantizeConfig,
    TrainingConfig,
    atomic,
    calibrate,
    convert,
    finetune,
    prepare,
    reconstruct,
    snap_steps,
)
from nybble.quantize.data import batches, draw
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.settings import AugmentationConfig, ReconstructionConfig
from nybble.quantize.train.evaluate import evaluate

FOLDER = WORK / "cifar"
FLOAT = FOLDER / "float.pt"
AUGMENTATION = AugmentationConfig(crop="pad")
FLOAT_TRAINING = TrainingConfig(
    epochs=3,
    batch=128,
    learning_rate=0.01,
    warmup_epochs=0.1,
    weight_decay=2e-4,
    seed=SEED,
    augmentation=AUGMENTATION,
)
#: With batch norm folded, SGD at 0.01 and AdamW at 0.001 diverge.
TRAINING = TrainingConfig(
    epochs=1,
    batch=128,
    optimizer="adamw",
    learning_rate=3e-4,
    scale_rate=0.25,
    warmup_epochs=0.1,
    weight_decay=0.0,
    distillation=0.7,
    temperature=3.0,
    seed=SEED,
    workers=0,
    save_every=50,
    amp="bfloat16",
    augmentation=AUGMENTATION,
)
#: After the first epoch, another; and then what was still missing.
SECOND = TRAINING.model_copy(update={"seed": SEED + 1})
LONG = TRAINING.model_copy(update={"seed": SEED + 2, "epochs": 4, "learning_rate": 4e-4})
LONGER = TRAINING.model_copy(update={"seed": SEED + 3, "epochs": 10, "learning_rate": 4e-4})
#: The float network's answers and blocks alone, in float32.
BLOCKS = TRAINING.model_copy(
    update={
        "seed": SEED + 4,
        "epochs": 5,
        "learning_rate": 3e-4,
        "distillation": 1.0,
        "temperature": 6.0,
        "features": 2.0,
        "amp": "off",
        "compile": True,
    }
)
#: One long run from the calibrated network, in place of several short ones.
WHOLE = TRAINING.model_copy(
    update={
        "seed": SEED + 5,
        "epochs": 20,
        "learning_rate": 5e-4,
        "warmup_epochs": 0.5,
        "distillation": 0.9,
        "temperature": 4.0,
        "damping": 1e-2,
        "ema": 0.998,
        "compile": True,
        "amp": "off",
    }
)
#: Eight bits need little: a part of an epoch.
SHORT_IMAGES = 12_800
SHORT = TRAINING.model_copy(update={"epochs": 1, "learning_rate": 5e-5})
EIGHT = CalibrationConfig(method="percentile", percentile=99.999, images=2000, batch=100, workers=0, seed=SEED)
FOUR = CalibrationConfig(method="mse", weights="mse", images=1000, batch=100, workers=0, seed=SEED)
#: In steps of the result.
TOLERANCE = 1e-6
#: On the selection split, of the ways to the same bits.
CHOSEN = ("w8a8-lsq", "w8a8-mse", "w4a4-lsq-3", "w4a4-reconstructed", "w4a4-calibrated")
RECONSTRUCTION = ReconstructionConfig(images=1000, iterations=500, seed=SEED)


def train_float() -> dict[str, Any]:
    """Fine-tune the published weights."""
    training_photos, selection = training()
    network = resnet20.pretrained(DATA / "cifar10-resnet20" / "resnet20-12fca82f.th")
    before = evaluate(network, selection, resnet20.PREPROCESSING, batch=250)
    rows = train(network, training_photos, selection, resnet20.PREPROCESSING, FLOAT_TRAINING, FLOAT, Progress())
    found = evaluate(network, selection, resnet20.PREPROCESSING, batch=250)
    return {
        "before": figures(before),
        "selection": figures(found),
        "epochs": rows,
        "training": FLOAT_TRAINING.model_dump(mode="json"),
    }


def float_network() -> resnet20.ResNet20:
    """The fine-tuned network."""
    state = atomic.load(FLOAT)
    if state is None or state["epoch"] != FLOAT_TRAINING.epochs:
        raise SystemExit("run the stage float first")
    network = resnet20.ResNet20()
    network.load_state_dict(state["network"])
    return network.eval().to(memory_format=torch.channels_last)


def prepared(bits: Bits, calibration: CalibrationConfig, method: str = "ste") -> QuantizedNetwork:
    """With quantizers, calibrated."""
    config = QuantizeConfig(
        bits=bits, method=method, calibration=calibration, training=TRAINING, reconstruction=RECONSTRUCTION
    )
    network = prepare(float_network(), resnet20.SHAPE, config, resnet20.PREPROCESSING, resnet20.CLASSES)
    network.to(memory_format=torch.channels_last)
    calibrate(network, batches(training()[0], resnet20.PREPROCESSING, calibration), progress=Progress())
    return network


def settle(network: QuantizedNetwork, name: str, *, exact_steps: bool = True) -> dict[str, Any]:
    """Convert, keep, and let the engine answer the selection set.

    Factors are exact because weight steps are made so, or else err by next to nothing because shifts are long enough.
    Of networks with learned steps the first was better on the selection split in eight bits, the second in four.
    """
    if exact_steps:
        snap_steps(network)
    graph, report = convert(network) if exact_steps else convert(network, tolerance=TOLERANCE)
    write_graph(graph, FOLDER / name)
    selection = training()[1]
    found = evaluate(EngineModule(graph), selection, resnet20.PREPROCESSING, batch=250)
    reference = evaluate(float_network(), selection, resnet20.PREPROCESSING, batch=250)
    return {
        "selection_float": figures(reference),
        "selection": figures(found, reference),
        "rescale_error": report.largest_error,
        "bytes": sum(file.stat().st_size for file in (FOLDER / name).rglob("*") if file.is_file()),
    }


def calibrated(bits: Bits, calibration: CalibrationConfig, name: str) -> dict[str, Any]:
    """Calibration alone."""
    network = prepared(bits, calibration)
    return settle(network, name) | {"calibration": calibration.model_dump(mode="json")}


def reconstructed(name: str) -> dict[str, Any]:
    """Calibration and block reconstruction, without labels."""
    network = prepared(Bits.W4A4, FOUR)
    shown = list(batches(training()[0], resnet20.PREPROCESSING, FOUR))
    work = FOLDER / f"{name}-work"
    work.mkdir(exist_ok=True)
    report = reconstruct(network, shown, work=work, progress=Progress())
    return settle(network, name) | {
        "reconstruction": RECONSTRUCTION.model_dump(mode="json"),
        "images": report.images,
        "errors": {block.name: [block.before, block.after] for block in report.blocks},
    }


def trained(
    bits: Bits, name: str, method: str, start: str | None = None, config: TrainingConfig = TRAINING
) -> dict[str, Any]:
    """Fine-tuned with quantizers in place, distilled from the float network; from where another stage ended."""
    network = prepared(bits, FOUR if bits is Bits.W4A4 else EIGHT, method)
    teacher = copy.deepcopy(network) if config.features else float_network()
    if config.features:
        teacher.set_mode("float")
    if start is not None:
        state = atomic.load(FOLDER / f"{start}-work" / "best.pt")
        if state is None:
            raise SystemExit(f"run the stage {start} first")
        network.load_state_dict(state["network"])
    training_photos, selection = training()
    if bits is Bits.W8A8:
        training_photos = draw(training_photos, SHORT_IMAGES, SEED)
    result = finetune(
        network,
        training_photos,
        selection,
        config,
        teacher=teacher,
        work=FOLDER / f"{name}-work",
        progress=Progress(),
    )
    return settle(network, name, exact_steps=bits is not Bits.W4A4) | {
        "method": method,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "training": config.model_dump(mode="json"),
    }


def final() -> dict[str, Any]:
    """The test images, once, for the float networks and what was chosen on the selection split."""
    test = photos("test")
    reference = evaluate(float_network(), test, resnet20.PREPROCESSING, batch=250, progress=Progress())
    published = resnet20.pretrained(DATA / "cifar10-resnet20" / "resnet20-12fca82f.th")
    before = evaluate(published, test, resnet20.PREPROCESSING, batch=250, progress=Progress())
    found: dict[str, Any] = {"float": figures(reference), "float-before": figures(before, reference)}
    for name in (name for name in CHOSEN if (FOLDER / name).is_dir()):
        answers = evaluate(EngineModule(read_graph(FOLDER / name)), test, resnet20.PREPROCESSING, batch=250)
        found[name] = figures(answers, reference)
    return found


STAGES = {
    "float": train_float,
    "w8a8": lambda: calibrated(Bits.W8A8, EIGHT, "w8a8"),
    "w8a8-mse": lambda: calibrated(Bits.W8A8, EIGHT.model_copy(update={"method": "mse"}), "w8a8-mse"),
    "w8a8-minmax": lambda: calibrated(Bits.W8A8, EIGHT.model_copy(update={"method": "minmax"}), "w8a8-minmax"),
    "w4a4-calibrated": lambda: calibrated(Bits.W4A4, FOUR, "w4a4-calibrated"),
    "w4a4-lsq": lambda: trained(Bits.W4A4, "w4a4-lsq", "lsq"),
    "w4a4-lsq-2": lambda: trained(Bits.W4A4, "w4a4-lsq-2", "lsq", "w4a4-lsq", SECOND),
    "w4a4-lsq-3": lambda: trained(Bits.W4A4, "w4a4-lsq-3", "lsq", "w4a4-lsq-2", LONG),
    "w4a4-lsq-4": lambda: trained(Bits.W4A4, "w4a4-lsq-4", "lsq", "w4a4-lsq-3", LONGER),
    "w4a4-blocks": lambda: trained(Bits.W4A4, "w4a4-blocks", "lsq", "w4a4-lsq-4", BLOCKS),
    "w4a4-whole": lambda: trained(Bits.W4A4, "w4a4-whole", "lsq", None, WHOLE),
    "w4a4-ste": lambda: trained(Bits.W4A4, "w4a4-ste", "ste"),
    "w8a8-lsq": lambda: trained(Bits.W8A8, "w8a8-lsq", "lsq", None, SHORT),
    "w4a4-reconstructed": lambda: reconstructed("w4a4-reconstructed"),
    "final": final,
}


def main(names: list[str]) -> None:
    """Run the stages named."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        stage(f"cifar/{name}", STAGES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
