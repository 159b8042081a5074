"""Ranges of a prepared network from the histograms of its tensors."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nybble.progress import Progress, silent
from nybble.quantize import atomic
from nybble.quantize.calibrate.observers import HistogramObserver
from nybble.quantize.calibrate.ranges import activation_range, weight_range
from nybble.quantize.calibrate.report import CalibrationReport, TensorRange
from nybble.quantize.errors import QuantizeError
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.settings import CalibrationConfig

if TYPE_CHECKING:
    from nybble.quantize.fake.network import QuantizedNetwork

STATE = "calibration.pt"


def calibrate(
    network: QuantizedNetwork,
    data: Iterable[Any],
    config: CalibrationConfig | None = None,
    *,
    work: Path | None = None,
    resume: bool = True,
    progress: Progress = silent,
) -> CalibrationReport:
    """Run the float network over images, and set the range of every activation and weight.

    Parameters
    ----------
    network : QuantizedNetwork
        In mode "quantize" afterwards; whether it is in training mode does not change.
    data : iterable
        Batches: float32 (N, C, H, W), normalised, or a tuple that starts with such a tensor. To resume, every iteration
        must give the same batches in the same order, as :func:`nybble.quantize.data.batches` does.
    config : CalibrationConfig, optional
        By default the network's own.
    work : Path, optional
        Folder for ``calibration.pt``, the histograms so far, written every ``save_every`` batches. A run that was
        killed continues from there, and ends with the same histograms as an uninterrupted one. Complete histograms are
        kept, so another range method needs no further pass.
    resume : bool
        Whether to read that file.
    progress : callable

    Returns
    -------
    CalibrationReport

    Raises
    ------
    QuantizeError
        If there are no images, values are not finite (naming the tensor), or the state is of another network or of
        other data.
    """
    config = config if config is not None else network.config.calibration
    begun = time.perf_counter()
    quantizers = network.activation_quantizers()
    observers = {
        name: HistogramObserver(name, signed=quantizer.dtype.is_signed, bins=config.bins)
        for name, quantizer in quantizers.items()
    }
    path = None if work is None else work / STATE
    about = _about(network, data, config)
    state = atomic.load(path) if path is not None and resume else None
    done, images, complete = _restore(observers, state, about, path)
    if not complete:
        done, images = _observe(network, data, config, observers, done, images, path, about, progress)
    if not images:
        raise QuantizeError("calibration needs at least one image, and the data had none")
    set_weight_ranges(network, config)
    return set_activation_ranges(network, observers, config, images, time.perf_counter() - begun)


def set_weight_ranges(network: QuantizedNetwork, config: CalibrationConfig) -> None:
    """Set the range of every output channel by ``config.weights``."""
    layers = network.layers()
    for name, quantizer in network.weight_quantizers().items():
        try:
            quantizer.set_range(weight_range(layers[name].weight, quantizer.bits, config.weights))
        except QuantizeError as error:
            raise QuantizeError(f"{name}: {error}") from error


def set_activation_ranges(
    network: QuantizedNetwork,
    observers: dict[str, HistogramObserver],
    config: CalibrationConfig,
    images: int,
    seconds: float,
) -> CalibrationReport:
    """Set the range of every activation from its histogram, then weight steps that make the factors exact."""
    tensors: dict[str, TensorRange] = {}
    for name, quantizer in network.activation_quantizers().items():
        chosen = activation_range(observers[name], quantizer.dtype, config)
        quantizer.set_range(chosen)
        # A quantizer may have a smaller limit: a ReLU6 clips at 6 anyway.
        tensors[name] = TensorRange.of(observers[name], quantizer.dtype, quantizer.range)
    snap_steps(network)
    network.set_mode("quantize")
    return CalibrationReport(config=config, images=images, seconds=seconds, tensors=tensors, observers=observers)


@contextmanager
def observing(network: QuantizedNetwork, observers: dict[str, HistogramObserver]) -> Iterator[None]:
    """While the block runs, each activation quantizer shows its input to its observer; evaluation mode."""
    was_training = network.training
    quantizers = network.activation_quantizers()
    network.eval()
    for name, observer in observers.items():
        quantizers[name].observer = observer
    try:
        yield
    finally:
        for quantizer in quantizers.values():
            quantizer.observer = None
        network.train(was_training)


def _observe(
    network: QuantizedNetwork,
    data: Iterable[Any],
    config: CalibrationConfig,
    observers: dict[str, HistogramObserver],
    done: int,
    images: int,
    path: Path | None,
    about: dict[str, Any],
    progress: Progress,
) -> tuple[int, int]:
    """Run what is left of the data; return the batches and images seen in all."""
    total = _total(data, config)
    device = next(network.parameters()).device
    network.set_mode("float")
    with observing(network, observers), torch.inference_mode():
        for batch in _from(data, done):
            if config.images is not None and images >= config.images:
                break
            tensor = _images(batch)
            if config.images is not None:
                tensor = tensor[: config.images - images]
            if tensor.shape[0]:
                network(tensor.to(device).contiguous(memory_format=torch.channels_last))
            done, images = done + 1, images + tensor.shape[0]
            progress("calibrating", images, total)
            if path is not None and done % config.save_every == 0:
                _save(path, observers, about, done, images, complete=False)
    if path is not None and images:
        _save(path, observers, about, done, images, complete=True)
    if total is not None:
        progress("calibrating", total, total)
    return done, images


def _images(batch: Any) -> Tensor:
    tensor = batch if isinstance(batch, Tensor) else batch[0]
    if not isinstance(tensor, Tensor) or tensor.dim() != 4 or not tensor.is_floating_point():
        raise QuantizeError(
            "calibration reads batches of float images (N, C, H, W), or tuples that start with one, not "
            + (f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__)
        )
    return tensor


def _from(data: Iterable[Any], start: int) -> Iterator[Any]:
    """The batches from number ``start`` on; earlier ones are not made if the data support that."""
    starting_at = getattr(data, "starting_at", None)
    if start and callable(starting_at):
        yield from starting_at(start)
        return
    for place, batch in enumerate(data):
        if place >= start:
            yield batch


def _total(data: Iterable[Any], config: CalibrationConfig) -> int | None:
    images = getattr(data, "images", None)
    if images is None:
        return config.images
    return int(images) if config.images is None else min(int(images), config.images)


def _about(network: QuantizedNetwork, data: Iterable[Any], config: CalibrationConfig) -> dict[str, Any]:
    """Everything that the histograms depend on: a stored state is used only if all of it is the same."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        # Scales are not included: calibration sets them, and the float network does not read them.
        if isinstance(value, Tensor) and not name.endswith("scale"):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    quantizers = network.activation_quantizers()
    return {
        "weights": digest.hexdigest(),
        "tensors": ",".join(f"{name}:{quantizer.dtype}" for name, quantizer in quantizers.items()),
        "data": str(getattr(data, "fingerprint", "")),
        "bins": config.bins,
        "images": -1 if config.images is None else config.images,
    }


def _save(
    path: Path,
    observers: dict[str, HistogramObserver],
    about: dict[str, Any],
    done: int,
    images: int,
    *,
    complete: bool,
) -> None:
    histograms = {name: observer.state_dict() for name, observer in observers.items()}
    atomic.save(path, {"about": about, "done": done, "images": images, "complete": complete, "histograms": histograms})


def _restore(
    observers: dict[str, HistogramObserver], state: dict[str, Any] | None, about: dict[str, Any], path: Path | None
) -> tuple[int, int, bool]:
    if state is None:
        return 0, 0, False
    for key, value in about.items():
        if state.get("about", {}).get(key) != value:
            raise QuantizeError(
                f"{path}: belongs to a calibration with other {key}; remove it or name another work folder"
            )
    for name, observer in observers.items():
        observer.load_state_dict(state["histograms"][name])
    return int(state["done"]), int(state["images"]), bool(state["complete"])
