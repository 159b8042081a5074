"""A prepared network in blocks that hand one value to the next, and that value of many images, cached on disk."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer

#: Computes a step from its inputs.
Compute = Callable[[Step, list[Tensor]], Tensor]


@dataclass(frozen=True)
class Block:
    """Consecutive steps between two points of the network at which a single value is alive.

    Attributes
    ----------
    name : str
        That of its last layer.
    source : str
        The only value that its steps read from before it.
    steps : tuple of Step
        The last one's value is all that is read of it later.
    """

    name: str
    source: str
    steps: tuple[Step, ...]

    @property
    def layers(self) -> list[QuantizedLayer]:
        """Convolutions and linear layers, in execution order."""
        return [step.module for step in self.steps if isinstance(step.module, QuantizedLayer)]

    @property
    def quantizers(self) -> list[ActivationQuantizer]:
        """Those of the activations that the block makes; one that makes several is there once."""
        found = (step.module for step in self.steps)
        return list(dict.fromkeys(module for module in found if isinstance(module, ActivationQuantizer)))

    def run(self, x: Tensor, compute: Compute | None = None, *, stop: str | None = None) -> Tensor:
        """The block's result, or the value of its step ``stop``; ``compute`` replaces the modules' own forward."""
        live = {self.source: x}
        for step in self.steps:
            inputs = [live[name] for name in step.inputs]
            live[step.name] = step.module(*inputs) if compute is None else compute(step, inputs)
            if step.name == stop:
                return live[step.name]
        return live[self.steps[-1].name]


def split(network: QuantizedNetwork) -> list[Block]:
    """Divide a network: residual blocks come out whole, a chain of layers as single layers.

    Every block has at least one layer, unless the network has none.
    """
    steps = network.steps
    last_reader = {name: place for place, step in enumerate(steps) for name in step.inputs}
    coded = {network.INPUT}
    live = {network.INPUT}
    blocks: list[Block] = []
    source, pending = network.INPUT, []
    for place, step in enumerate(steps):
        pending.append(step)
        joins = isinstance(step.module, FakeOperation) and step.module.joins_codes
        alone = step.inputs[0] in coded and not isinstance(step.module, QuantizedLayer) and len(step.inputs) == 1
        if isinstance(step.module, ActivationQuantizer) or joins or alone:
            coded.add(step.name)
        live = {name for name in (*live, step.name) if last_reader.get(name, -1) > place}
        ended = place == len(steps) - 1 or (live == {step.name} and step.name in coded)
        layers = [step.module.name for step in pending if isinstance(step.module, QuantizedLayer)]
        if ended and layers:
            blocks.append(Block(layers[-1], source, tuple(pending)))
            source, pending = step.name, []
    if pending and blocks:
        blocks[-1] = Block(blocks[-1].name, blocks[-1].source, (*blocks[-1].steps, *pending))
    return blocks


class Values:
    """One value of all images: float32 (N, ...) in a file, of which only what is read is in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, indices: Tensor | slice) -> Tensor:
        """Images by number, a copy."""
        mapped = np.memmap(self.path, np.float32, "r", shape=self.shape)
        chosen = indices if isinstance(indices, slice) else indices.numpy()
        return torch.from_numpy(np.array(mapped[chosen]))

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All images in their order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self.rows(slice(first, first + size))

    def drop(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def write_values(path: Path, parts: Iterable[Tensor]) -> Values:
    """Write tensors (n, ...), one after the other, and return them as one.

    Raises
    ------
    QuantizeError
        If there is none, their shapes differ, or the disk is full.
    """
    count, shape = 0, None
    try:
        with path.open("wb") as file:
            for part in parts:
                array = np.ascontiguousarray(part.detach().cpu().numpy(), np.float32)
                if shape not in (None, array.shape[1:]):
                    raise QuantizeError(f"images of shapes {shape} and {array.shape[1:]} in one run; use one shape")
                count, shape = count + len(array), array.shape[1:]
                file.write(array.data)
    except OSError as error:
        raise QuantizeError(
            f"{path}: cannot be written: {error.strerror or error}; name another work folder"
        ) from error
    if shape is None or not count:
        raise QuantizeError("at least one image is needed, and the data had none")
    return Values(path, (count, *shape))


@contextmanager
def cache_folder(work: Path | None) -> Iterator[Path]:
    """A folder for :class:`Walk`, deleted at the end: ``values`` in ``work``, else a temporary one.

    What a killed run left in it is deleted at the start.
    """
    if work is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder = work / "values"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise QuantizeError(f"{folder}: cannot be made: {error.strerror or error}; name another work folder") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Walk:
    """Goes through a network block by block, with each block's input from the float and the quantized network.

    Parameters
    ----------
    network : QuantizedNetwork
    batches : iterable
        float32 (N, C, H, W), or tuples that start with such a tensor; read once.
    folder : Path
        For four files of values at most.
    images : int, optional
        Use only the first so many.
    chunk : int
        Images a forward pass, whatever the batches were, so that the results are the same ones.

    Attributes
    ----------
    exact, coded : Values
        The current block's input: what the float network has there, and the quantized one.
    digest : str
        Of the images.
    """

    def __init__(
        self, network: QuantizedNetwork, batches: Iterable[Any], folder: Path, *, images: int | None, chunk: int
    ) -> None:
        self._network = network
        self._folder = folder
        self._chunk = chunk
        self._device = next(network.parameters()).device
        self._hash = hashlib.sha256()
        self._count = 0
        self.exact = write_values(self._new(), self._images(batches, images))
        self.digest = self._hash.hexdigest()
        network.set_mode("quantize")
        self.coded = self._mapped(self.exact, network.input_quantizer)

    def target(self, block: Block) -> Values:
        """What the float network makes of the block's input."""
        self._network.set_mode("float")
        values = self._mapped(self.exact, block.run)
        self._network.set_mode("quantize")
        return values

    def advance(self, block: Block, target: Values) -> None:
        """Go on to the next block: its inputs are ``target`` and what the quantized block makes of its own."""
        self._network.set_mode("quantize")
        following = self._mapped(self.coded, block.run)
        self.close()
        self.exact, self.coded = target, following

    def close(self) -> None:
        """Delete the current files."""
        self.exact.drop()
        self.coded.drop()

    def _mapped(self, values: Values, compute: Callable[[Tensor], Tensor] | nn.Module) -> Values:
        with torch.inference_mode():
            parts = (compute(part.to(self._device)) for part in values.chunks(self._chunk))
            return write_values(self._new(), parts)

    def _new(self) -> Path:
        self._count += 1
        return self._folder / f"values-{self._count:04}.f32"

    def _images(self, batches: Iterable[Any], images: int | None) -> Iterator[Tensor]:
        for tensor in first_images(batches, images):
            self._hash.update(np.ascontiguousarray(tensor.cpu().numpy(), np.float32).data)
            yield tensor


def first_images(batches: Iterable[Any], images: int | None) -> Iterator[Tensor]:
    """The tensors of images in batches, cut after ``images`` of them.

    Raises
    ------
    QuantizeError
        If a batch does not start with float images (N, C, H, W).
    """
    seen = 0
    for batch in batches:
        tensor = batch if isinstance(batch, Tensor) else batch[0]
        if not isinstance(tensor, Tensor) or tensor.dim() != 4 or not tensor.is_floating_point():
            raise QuantizeError("batches must be float images (N, C, H, W), or tuples that start with such a tensor")
        if images is not None:
            tensor = tensor[: images - seen]
        seen += len(tensor)
        if len(tensor):
            yield tensor
        if seen == images:
            return
