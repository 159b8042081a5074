"""Bias correction: subtracts the average error that rounding causes in a channel.

Nagel et al. 2019, section 4.2, in its empirical form: from calibration images, channel by channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nybble.progress import Progress, silent
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.ptq.blocks import Block, Values, Walk, cache_folder, split


@torch.no_grad()
def correct_bias(
    network: QuantizedNetwork,
    batches: Iterable[Any],
    *,
    images: int | None = None,
    chunk: int = 32,
    work: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Shift biases so that each channel's mean is that of the float network.

    Layers are corrected in order, each after the layers before it: the difference between the means of its exact sums
    in the float and in the quantized network is added to its bias. Call it after ``calibrate``.

    Parameters
    ----------
    network : QuantizedNetwork
        With ranges set. In mode ``quantize`` afterwards.
    batches : iterable
        float32 (N, C, H, W), or tuples that start with such a tensor; read once.
    images : int, optional
        Use only the first so many.
    chunk : int
        Images per forward pass.
    work : Path, optional
        Folder for cached values, which are deleted at the end; by default a temporary one.
    progress : callable

    Returns
    -------
    dict of str to Tensor
        The number added to each layer's bias, (K,).

    Raises
    ------
    QuantizeError
        If there are no images, or values are not finite, naming the layer.
    """
    was_training = network.training
    network.eval()
    added: dict[str, Tensor] = {}
    total = len(network.layers())
    with cache_folder(work) as folder:
        walk = Walk(network, batches, folder, images=images, chunk=chunk)
        for block in split(network):
            network.set_mode("float")
            layers = {step.name: step.module for step in block.steps if isinstance(step.module, QuantizedLayer)}
            wanted = {name: _mean(block, name, walk.exact, chunk, network) for name in layers}
            target = walk.target(block)
            for name, layer in layers.items():
                difference = wanted[name] - _mean(block, name, walk.coded, chunk, network)
                if not bool(torch.isfinite(difference).all()):
                    raise QuantizeError(f"{layer.name}: its sums are NaN or infinite; calibrate the network first")
                layer.bias.add_(difference)
                added[layer.name] = difference
                progress("correcting biases", len(added), total)
            walk.advance(block, target)
    network.train(was_training)
    return added


def _mean(block: Block, step: str, source: Values, chunk: int, network: QuantizedNetwork) -> Tensor:
    """(K,): mean of a step's value over images, rows and columns."""
    device = next(network.parameters()).device
    total: Tensor | None = None
    count = 0
    for part in source.chunks(chunk):
        y = block.run(part.to(device), stop=step)
        summed = y.double().transpose(0, 1).flatten(1).sum(1)
        total = summed if total is None else total + summed
        count += y.numel() // y.shape[1]
    if total is None:
        raise QuantizeError("bias correction needs at least one image, and the data had none")
    return (total / count).float()
