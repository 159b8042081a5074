"""Post-training methods and the choice of bits, if the configuration has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from nybble.progress import Progress
from nybble.quantize import atomic
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import ActivationConfig, Bits, LayerConfig
from nybble.quantize.data import Loader, Photos, batches
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.pipeline.settings import PipelineConfig
from nybble.quantize.pipeline.store import digest_of
from nybble.quantize.pipeline.task_score import TaskScore
from nybble.quantize.ptq.bias import correct_bias
from nybble.quantize.ptq.channels import fit_channels
from nybble.quantize.ptq.equalize import equalize
from nybble.quantize.ptq.mixed import (
    choose_bits,
    engine_times,
    multiplications,
    network_timer,
    shares_of_layers,
    weights_of,
)
from nybble.quantize.ptq.reconstruct import reconstruct
from nybble.quantize.ptq.sensitivity import sensitivity, top1
from nybble.quantize.settings import MixedConfig
from nybble.quantize.train.evaluate import preprocessing_of

Details = dict[str, Any]
#: The choice of bits, in the work folder: engines are timed once only, or a run that goes on might choose otherwise.
CHOICE = "bits.pt"


def before_calibration(
    network: QuantizedNetwork, data: Iterable[Any], config: PipelineConfig, details: Details
) -> None:
    """Equalise channels, or fit those behind a ReLU6; the float network stays the same function."""
    if config.equalize:
        found = equalize(network)
        details["equalized"] = [[pair.first, pair.second, pair.smallest, pair.largest] for pair in found.pairs]
    if config.fit_channels:
        fitted = fit_channels(network, data, images=config.calibration.images)
        details["fitted_channels"] = [[entry.name, entry.smallest, entry.largest] for entry in fitted]


def after_calibration(
    network: QuantizedNetwork, data: Iterable[Tensor], config: PipelineConfig, work: Path, progress: Progress
) -> None:
    """Learn roundings, or correct biases, or neither; in mode ``quantize`` afterwards."""
    if config.reconstruct:
        reconstruct(network, data, config.reconstruction, work=work / "reconstruction", progress=progress)
    elif config.correct_bias:
        correct_bias(network, data, images=config.calibration.images, work=work, progress=progress)
    network.set_mode("quantize")


def choose(
    made: Callable[[PipelineConfig], QuantizedNetwork],
    train: Photos,
    selection: Photos,
    config: PipelineConfig,
    work: Path,
    progress: Progress,
    details: Details,
) -> PipelineConfig:
    """Decide for each group of layers between 4 and 8 bits, within the configuration's budget.

    Noise and time are measured on training photos, the accuracy asked for on selection photos.

    Parameters
    ----------
    made : callable
        Prepares the float network as a configuration says.
    train, selection : Photos
    config : PipelineConfig
        With ``min_accuracy``, ``speed`` or ``four_bit_share``.
    work : Path
        For both calibrations and the choice.
    progress : callable
    details : dict
        Gets what was chosen.

    Returns
    -------
    PipelineConfig
        With all layers and activations listed, and without a budget.

    Raises
    ------
    QuantizeError
        If the budget cannot be met; the text says what can be reached.
    """
    plain = config.model_copy(deep=True, update={"min_accuracy": None, "speed": None, "four_bit_share": None})
    eight = made(plain.model_copy(update={"bits": Bits.W8A8}))
    about = config.model_dump_json(exclude={"training", "reconstruction"})
    key = f"{digest_of(eight)} {train.fingerprint} {selection.fingerprint} {hashlib.sha256(about.encode()).hexdigest()}"
    state = atomic.load(work / CHOICE)
    if state is None or state.get("key") != key:
        four = made(plain.model_copy(update={"bits": Bits(config.mixed.four)}))
        state = {"key": key, **_measured(eight, four, train, selection, config, work, progress)}
        atomic.save(work / CHOICE, state)
    details["bits"] = state["details"]
    chosen = plain.model_copy(deep=True)
    chosen.layers = {name: LayerConfig.model_validate(entry) for name, entry in state["layers"].items()}
    chosen.activations = {name: ActivationConfig.model_validate(entry) for name, entry in state["activations"].items()}
    return chosen


def _measured(
    eight: QuantizedNetwork,
    four: QuantizedNetwork,
    train: Photos,
    selection: Photos,
    config: PipelineConfig,
    work: Path,
    progress: Progress,
) -> dict[str, Any]:
    preprocessing, settings = preprocessing_of(eight), config.mixed
    data = batches(train, preprocessing, config.calibration)
    for network, bits in ((eight, 8), (four, 4)):
        before_calibration(network, data, config, {})
        calibrate(network, data, config.calibration, work=work / f"all-{bits}-bit", progress=progress)
    share = config.four_bit_share
    times, seconds_8 = (
        engine_times(eight, four, data, settings) if share is None else shares_of_layers(eight, four, settings.share_of)
    )
    by_task = bool(eight.outputs) and settings.criterion == "accuracy"
    score = TaskScore(eight, data, settings.images) if by_task else None
    found = sensitivity(eight, four, data, times, seconds_8, images=settings.images, score=score, progress=progress)
    labelled = selection.labelled and not eight.outputs
    held = Loader(selection, preprocessing, batch=config.batch, workers=config.calibration.workers)
    choice = choose_bits(
        eight,
        four,
        found,
        min_accuracy=config.min_accuracy,
        # Instead of seconds, count the multiplications that 4 bits save.
        speed=config.speed if share is None else 1 / max(1 - share, 1e-9),
        evaluate=(lambda network: top1(network, held.in_order())) if labelled else None,
        timer=network_timer(data, settings) if share is None else None,
        config=settings,
        progress=progress,
    )
    return {
        "layers": {name: entry.model_dump(mode="json") for name, entry in choice.network.config.layers.items()},
        "activations": {
            name: entry.model_dump(mode="json") for name, entry in choice.network.config.activations.items()
        },
        "details": {
            "min_accuracy": config.min_accuracy,
            "speed": config.speed,
            "four_bits": list(choice.four_bits),
            "groups": len(found.groups),
            "accuracy": choice.accuracy,
            "times_as_fast_as_8_bits": choice.speed if share is None else None,
            f"share_of_{settings.share_of}": None if share is None else _shares(choice.network, settings, seconds_8),
        },
    }


def _shares(network: QuantizedNetwork, settings: MixedConfig, choosable: float) -> dict[str, float]:
    """Multiplications by 4-bit weights, or these, as a share of those that may have them and of all."""
    counts = weights_of(network) if settings.share_of == "weights" else multiplications(network)
    four = sum(counts[name] for name, layer in network.layers().items() if layer.weight_quantizer.bits == 4)
    return {"of_choosable": four / choosable, "of_all": four / sum(counts.values())}
