"""Block reconstruction: each block learns to reproduce the float network's values, from images without labels.

Li et al. 2021 (BRECQ) for the blocks, Nagel et al. 2020 (AdaRound) for the rounding of weights, Esser et al. 2020 for
the activations' step sizes, Wei et al. 2022 (QDrop) for leaving a share of activations unquantized while learning.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nybble.progress import Progress, silent
from nybble.quantize import atomic
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.fused import fused
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import SMALLEST_STEP, ActivationQuantizer, learned_step_quantize
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.ptq.blocks import Block, Values, Walk, cache_folder, split
from nybble.quantize.ptq.rounding import Rounding, undecided
from nybble.quantize.settings import ReconstructionConfig

#: Distance of seeds, so that the random numbers of neighbouring blocks are independent.
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class ReconstructedBlock:
    """One block.

    Attributes
    ----------
    name : str
        Of its last layer.
    before, after : float
        Squared error of its result against the float network's, as a share of that one's energy: weights rounded to
        nearest, and as learned. Both with the blocks before it reconstructed.
    changed : float
        Share of weights that got another code than the nearest.
    kept : bool
        Whether the learned values are used. If they did not lower the error, the block is not changed.
    seconds : float
    """

    name: str
    before: float
    after: float
    changed: float
    kept: bool
    seconds: float


@dataclass
class ReconstructionReport:
    """The result of :func:`reconstruct`; ``resumed`` blocks were read from the work folder."""

    images: int = 0
    resumed: int = 0
    blocks: list[ReconstructedBlock] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def reconstruct(
    network: QuantizedNetwork,
    batches: Iterable[Any],
    config: ReconstructionConfig | None = None,
    *,
    work: Path | None = None,
    resume: bool = True,
    progress: Progress = silent,
) -> ReconstructionReport:
    """Learn how to round a calibrated network's weights, and its activations' step sizes, block by block.

    Weights become exact multiples of their steps, so that ``convert`` and further training start from the codes that
    were chosen. Steps are enlarged so that factors are exact (:func:`snap_steps`); doing that again changes nothing.

    Parameters
    ----------
    network : QuantizedNetwork
        With ranges set. In mode ``quantize`` afterwards.
    batches : iterable
        float32 (N, C, H, W), or tuples that start with such a tensor; read once. About 1,000 images.
    config : ReconstructionConfig, optional
        By default the network's own.
    work : Path, optional
        Folder for one file per block, ``block-0000.pt`` and so on. A run that was killed continues after the last
        complete one and ends with the same network, bit for bit on the same machine and threads.
    resume : bool
        Whether to read those files.
    progress : callable

    Returns
    -------
    ReconstructionReport

    Raises
    ------
    QuantizeError
        If there are no images, an error is not finite (naming the block), or saved blocks are of another network, other
        images or other settings.
    """
    config = config if config is not None else network.config.reconstruction
    was_training = network.training
    network.eval()
    with cache_folder(work) as folder, fused(config.compile):
        snap_steps(network)
        about = {"network": _digest(network), "settings": config.model_dump_json(), "version": 1}
        walk = Walk(network, batches, folder, images=config.images, chunk=config.chunk)
        about["images"] = walk.digest
        report = ReconstructionReport(images=len(walk.exact))
        for place, block in enumerate(split(network)):
            target = walk.target(block)
            path = None if work is None else work / f"block-{place:04}.pt"
            state = atomic.load(path) if path is not None and resume else None
            if state is not None:
                report.blocks.append(_restore(network, block, state, about, path))
                report.resumed += 1
            else:
                learning = _Learning(network, block, config, place)
                report.blocks.append(learning.run(walk, target, progress))
                if path is not None:
                    atomic.save(path, _saved(network, block, report.blocks[-1], about))
            walk.advance(block, target)
    network.train(was_training)
    return report


class _Learning:
    """One block."""

    def __init__(self, network: QuantizedNetwork, block: Block, config: ReconstructionConfig, place: int) -> None:
        self._network = network
        self._block = block
        self._config = config
        self._device = block.layers[0].weight.device
        self._random = torch.Generator(self._device).manual_seed(config.seed * _SEED_STRIDE + place)
        self._draw = torch.Generator().manual_seed(config.seed * _SEED_STRIDE + place)
        self._roundings = {layer.name: Rounding(layer) for layer in block.layers}
        self._steps = {
            quantizer.name: nn.Parameter(quantizer.step().detach().clone()) for quantizer in block.quantizers
        }

    def run(self, walk: Walk, target: Values, progress: Progress) -> ReconstructedBlock:
        begun = time.perf_counter()
        block, network = self._block, self._network
        network.set_mode("quantize")
        nearest = {layer.name: layer.weight_quantizer.codes(layer.weight) for layer in block.layers}
        before = self._error(walk.coded, target)
        if not math.isfinite(before):
            raise QuantizeError(f"{block.name}: its values are NaN or infinite; calibrate the network first")
        old = _tensors(network, block)
        self._learn(walk, target, before, progress)
        self._settle({layer.name: self._roundings[layer.name].codes() for layer in block.layers})
        after = self._error(walk.coded, target)
        kept = after < before
        if not kept:
            _load(network, block, old)
            self._settle(nearest)
        changed = weights = 0
        for layer in block.layers:
            quantizer = layer.weight_quantizer
            # By the steps in use now: nearest to what the weights were.
            other = quantizer.codes(layer.weight) != quantizer.codes(old[f"weight:{layer.name}"].to(self._device))
            changed, weights = changed + int(other.sum()), weights + other.numel()
        return ReconstructedBlock(block.name, before, after, changed / weights, kept, time.perf_counter() - begun)

    def _learn(self, walk: Walk, target: Values, before: float, progress: Progress) -> None:
        config = self._config
        energy = _energy(target, config.chunk) * max(before, 1e-12)
        warm = int(config.warmup * config.iterations)
        batch = min(config.batch, len(target))
        optimizer = self._optimizer(steps=True)
        for iteration in range(config.iterations):
            if iteration == warm:
                self._fix_steps()
                optimizer = self._optimizer(steps=False)
            indices = torch.randperm(len(target), generator=self._draw)[:batch].sort().values
            wanted = target.rows(indices).to(self._device)
            x = walk.coded.rows(indices).to(self._device)
            if config.drop:
                x = torch.where(self._kept(x), walk.exact.rows(indices).to(self._device), x)
            for group in optimizer.param_groups:
                done = iteration / (warm if group["kind"] == "steps" else config.iterations)
                fading = 1.0 if group["kind"] == "roundings" else 0.5 + 0.5 * math.cos(math.pi * done)
                group["lr"] = group["initial"] * fading
            # In units of the error that rounding to nearest makes, so that one weight of the regulariser suits all.
            loss = (self._block.run(x, self._compute) - wanted).square().sum() / (batch * energy)
            if iteration >= warm:
                first, last = config.sharpness
                sharpness = first + (last - first) * (iteration - warm) / (config.iterations - warm)
                loss = loss + config.regularizer * undecided(list(self._roundings.values()), sharpness)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if iteration < warm:
                self._take_over_steps()
            if iteration % 50 == 49 or iteration + 1 == config.iterations:
                progress(f"reconstructing {self._block.name}", iteration + 1, config.iterations)
        for layer in self._block.layers:
            layer.bias.grad = None

    def _optimizer(self, *, steps: bool) -> torch.optim.Adam:
        config = self._config
        groups = [("roundings", rounding.variable, config.rate) for rounding in self._roundings.values()]
        groups += [
            ("biases", layer.bias, config.bias_rate * float(layer.bias.detach().abs().max()))
            for layer in self._block.layers
        ]
        if steps:
            groups += [("steps", step, config.step_rate * float(step.detach())) for step in self._steps.values()]
        return torch.optim.Adam(
            [{"params": [value], "lr": rate, "initial": rate, "kind": kind} for kind, value, rate in groups if rate]
        )

    @torch.no_grad()
    def _fix_steps(self) -> None:
        """End of the warm-up: activations' steps stay, weights' become such that factors are exact.

        Only now do roundings become definite, on the grid that they will be used on.
        """
        for layer in self._block.layers:
            layer.weight.copy_(self._roundings[layer.name].soft())
        snap_steps(self._network)
        self._roundings = {layer.name: Rounding(layer) for layer in self._block.layers}

    def _compute(self, step: Step, inputs: list[Tensor]) -> Tensor:
        module = step.module
        if isinstance(module, QuantizedLayer):
            return module.apply_weights(inputs[0], self._roundings[module.name].soft(), module.quantized_bias())
        if isinstance(module, ActivationQuantizer):
            (x,) = inputs
            learned = self._limited(module)
            y = learned_step_quantize(x, learned, module.dtype.minimum, module.dtype.maximum, 1.0)
            return torch.where(self._kept(x), x, y) if self._config.drop else y
        result: Tensor = module(*inputs)
        return result

    def _kept(self, x: Tensor) -> Tensor:
        """Which elements stay unquantized."""
        return torch.rand(x.shape, generator=self._random, device=x.device) < self._config.drop

    def _limited(self, quantizer: ActivationQuantizer) -> Tensor:
        step = self._steps[quantizer.name]
        return step if quantizer.limit is None else step.clamp_max(quantizer.limit / quantizer.dtype.maximum)

    @torch.no_grad()
    def _take_over_steps(self) -> None:
        """Pools, additions and biases look at the quantizers themselves."""
        for quantizer in self._block.quantizers:
            step = self._steps[quantizer.name]
            step.clamp_(min=SMALLEST_STEP)
            quantizer.scale.copy_(step)

    @torch.no_grad()
    def _settle(self, codes: dict[str, Tensor]) -> None:
        """Make factors exact, then weights multiples of the steps, with the codes chosen."""
        snap_steps(self._network)
        for layer in self._block.layers:
            layer.weight.copy_(codes[layer.name] * layer.weight_quantizer.shaped(layer.weight))

    @torch.no_grad()
    def _error(self, source: Values, target: Values) -> float:
        """Squared error as a share of the target's energy, as the block is now."""
        chunk = self._config.chunk
        error = energy = 0.0
        for x, wanted in zip(source.chunks(chunk), target.chunks(chunk), strict=True):
            y = self._block.run(x.to(self._device)).cpu()
            error += float((y - wanted).double().square().sum())
            energy += float(wanted.double().square().sum())
        return error / max(energy, 1e-30)


def _energy(target: Values, chunk: int) -> float:
    """Of an image, on average."""
    return sum(float(part.double().square().sum()) for part in target.chunks(chunk)) / len(target)


def _digest(network: QuantizedNetwork) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(network: QuantizedNetwork, block: Block) -> dict[str, Tensor]:
    """Copies of all that learning a block changes: making factors exact moves the steps of later layers too."""
    found = {f"weight:{layer.name}": layer.weight for layer in block.layers}
    found |= {f"bias:{layer.name}": layer.bias for layer in block.layers}
    found |= {f"activation:{quantizer.name}": quantizer.scale for quantizer in block.quantizers}
    found |= {f"steps:{name}": quantizer.scale for name, quantizer in network.weight_quantizers().items()}
    return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}


@torch.no_grad()
def _load(network: QuantizedNetwork, block: Block, tensors: dict[str, Tensor]) -> None:
    for layer in block.layers:
        layer.weight.copy_(tensors[f"weight:{layer.name}"])
        layer.bias.copy_(tensors[f"bias:{layer.name}"])
    for quantizer in block.quantizers:
        quantizer.scale.copy_(tensors[f"activation:{quantizer.name}"])
    for name, weights in network.weight_quantizers().items():
        weights.scale.copy_(tensors[f"steps:{name}"])


def _saved(
    network: QuantizedNetwork, block: Block, result: ReconstructedBlock, about: dict[str, Any]
) -> dict[str, Any]:
    return {"about": about, "tensors": _tensors(network, block), "result": asdict(result)}


def _restore(
    network: QuantizedNetwork, block: Block, state: dict[str, Any], about: dict[str, Any], path: Path | None
) -> ReconstructedBlock:
    for key, value in about.items():
        if state.get("about", {}).get(key) != value:
            raise QuantizeError(
                f"{path}: belongs to a reconstruction with other {key}; remove the folder's block-*.pt "
                "or name another work folder"
            )
    _load(network, block, state["tensors"])
    return ReconstructedBlock(**state["result"])
