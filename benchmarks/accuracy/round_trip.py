"""The published INT4 ResNet-50 as a float network, rescaled at random, and quantized anew without its scales.

``python benchmarks/accuracy/round_trip.py [clips] [observed] [final]``

The directory becomes a float network that clips where the integer one does. Every hidden channel (what conv1 and conv2
of a block make) is multiplied by a random factor, its clip too, and what the next layer reads it with is divided by it:
the function stays, but one step no longer suits all channels. Then all scales and shifts are forgotten.

The integer network clips a whole tensor at one value, so channels must be of one size before it is quantized anew.
That is done in two ways: ``clips`` divides each hidden channel by its clip, which is part of the float network's
function; ``observed`` by the largest value seen, as if nothing but activations could be looked at (a quarter of the
channels never reach their clip, and nobody can tell their factors from that). Ranges are then found by calibration.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from engine_module import EngineModule
from records import DATA, WORK, Progress, figures, stage
from torch import Tensor, nn

from nybble.graph import read_graph, write_graph
from nybble.quantize import CalibrationConfig, calibrate, convert, from_graph
from nybble.quantize.data import FilePhotos, batches, every
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.ops.add import Add
from nybble.quantize.train.evaluate import evaluate, preprocessing_of

SEED = 20261126
SMALLEST, LARGEST = 0.25, 4.0
FOLDER = WORK / "round-trip"
MODEL = DATA / "nvidia-resnet50-int4"
CALIBRATION = CalibrationConfig(
    method="percentile", percentile=99.999, weights="mse", images=192, batch=16, workers=0, seed=SEED
)


class Clip(nn.Module):
    """Clips each channel to a range of its own: part of the float network's function."""

    def __init__(self, limits: Tensor, signed: bool) -> None:
        super().__init__()
        self.register_buffer("limits", limits.reshape(1, -1, 1, 1))
        self.signed = signed
        self.largest: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        y = torch.minimum(x, self.limits)
        y = torch.maximum(y, -self.limits) if self.signed else y
        if self.largest is not None:
            torch.maximum(self.largest, y.abs().amax((0, 2, 3)), out=self.largest)
        return y

    def seen(self) -> Tensor:
        """Stop observing; the largest magnitude of each channel."""
        largest, self.largest = self.largest, None
        if largest is None:
            raise RuntimeError("nothing was observed")
        return largest


class Pair:
    """A hidden value: the layer that makes it, its quantizer and clip, and the layer that reads it."""

    def __init__(self, first: QuantizedLayer, quantizer: ActivationQuantizer, clip: Clip, second: QuantizedLayer):
        self.first, self.quantizer, self.clip, self.second = first, quantizer, clip, second

    @torch.no_grad()
    def multiply(self, factor: Tensor) -> None:
        """Multiply the hidden channels by factors (K,); what the network computes stays."""
        self.first.weight.mul_(factor.reshape(-1, 1, 1, 1))
        self.first.bias.mul_(factor)
        self.clip.limits.mul_(factor.reshape(1, -1, 1, 1))
        self.second.weight.div_(factor.reshape(1, -1, 1, 1))


def clipping(network: QuantizedNetwork) -> tuple[QuantizedNetwork, dict[str, Clip]]:
    """The same modules with a clip before each quantizer."""
    steps: list[Step] = []
    clips: dict[str, Clip] = {}
    channels: dict[str, int] = {}
    for step in network.steps:
        if isinstance(step.module, QuantizedLayer):
            channels[step.name] = len(step.module.weight)
        elif step.inputs[0] in channels:
            channels[step.name] = channels[step.inputs[0]]
        if isinstance(step.module, ActivationQuantizer):
            quantizer = step.module
            limits = torch.full((channels[step.name],), quantizer.range)
            clip = clips[quantizer.name] = Clip(limits, quantizer.dtype.is_signed)
            steps += [Step(f"{step.name}.clip", step.inputs, clip), Step(step.name, (f"{step.name}.clip",), quantizer)]
        else:
            steps.append(step)
    made = QuantizedNetwork(steps, network.input_quantizer, network.input_shape, network.config, network.preprocessing)
    return made, clips


def hidden_pairs(network: QuantizedNetwork, clips: dict[str, Clip]) -> dict[str, Pair]:
    """Values that one layer makes and one layer reads, by the quantizer's name."""
    readers: dict[str, list[Step]] = {}
    for step in network.steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(step)
    found: dict[str, Pair] = {}
    for step in network.steps:
        if not isinstance(step.module, QuantizedLayer):
            continue
        following = step
        while len(readers.get(following.name, [])) == 1 and not isinstance(following.module, ActivationQuantizer):
            (following,) = readers[following.name]
            if isinstance(following.module, Add | QuantizedLayer):
                break
        if isinstance(following.module, ActivationQuantizer) and len(readers[following.name]) == 1:
            (reader,) = readers[following.name]
            if isinstance(reader.module, QuantizedLayer) and reader.module.weight.dim() == 4:
                quantizer = following.module
                found[quantizer.name] = Pair(step.module, quantizer, clips[quantizer.name], reader.module)
    return found


def forget(network: QuantizedNetwork) -> None:
    """Take away every scale and shift; the input's is the preprocessing's."""
    for layer in network.layers().values():
        old = layer.weight_quantizer
        layer.weight_quantizer = WeightQuantizer(len(layer.weight), old.bits)
        layer.weight_quantizer.set_range(layer.weight.detach().flatten(1).abs().amax(1))
    for quantizer in network.activation_quantizers().values():
        quantizer.set_range(math.pi)
        quantizer.shift = None
    for step in network.steps:
        if isinstance(step.module, Add):
            step.module.shift = None


def run(by: str) -> dict[str, Any]:
    """Rescale, forget, observe, divide, calibrate; ranges against the true ones, and the selection set's answers."""
    photos = FilePhotos(DATA / "imagenet-1k-one-each")
    training, selection = every(photos, 5, rest=True), every(photos, 5)
    graph = read_graph(MODEL)
    network = from_graph(graph)
    preprocessing = preprocessing_of(network)
    truth = {name: quantizer.range for name, quantizer in network.activation_quantizers().items()}
    float_network, clips = clipping(network)
    pairs = hidden_pairs(network, clips)
    float_network.set_mode("float")
    float_network.eval()
    progress = Progress()
    shown = list(batches(training, preprocessing, CALIBRATION))
    with torch.inference_mode():
        before = float_network(shown[0].images)
    random = torch.Generator().manual_seed(SEED)
    factors: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        low, high = math.log(SMALLEST), math.log(LARGEST)
        factors[name] = torch.exp(low + (high - low) * torch.rand(len(pair.first.weight), generator=random))
        pair.multiply(factors[name])
    forget(network)
    float_network.set_mode("float")
    with torch.inference_mode():
        after = float_network(shown[0].images)
    change = float((after - before).abs().max() / before.abs().max())
    # Observe hidden channels, and make them of one size.
    for pair in pairs.values():
        pair.clip.largest = torch.zeros(len(pair.first.weight))
    with torch.inference_mode():
        for number, batch in enumerate(shown):
            float_network(batch.images)
            progress("observing channels", number + 1, len(shown))
    applied: dict[str, Tensor] = {}
    saturated: list[Tensor] = []
    for name, pair in pairs.items():
        largest = pair.clip.seen()
        saturated.append(largest >= pair.clip.limits.flatten() * 0.9999)
        size = pair.clip.limits.flatten().clone() if by == "clips" else largest
        widest = size.max()
        # A channel that is nearly dead is not blown up.
        applied[name] = widest / size.clamp_min(widest / 64)
        pair.multiply(applied[name])
    report = calibrate(float_network, shown, CALIBRATION, progress=progress)
    errors: dict[str, float] = {}
    channel_errors: list[Tensor] = []
    for name, quantizer in network.activation_quantizers().items():
        if name in pairs:
            # In the units of before: each channel's range.
            relative = quantizer.range / (factors[name] * applied[name]) / truth[name] - 1
            channel_errors.append(relative)
            errors[name] = float(relative.median())
        else:
            errors[name] = quantizer.range / truth[name] - 1
    channels, reached = torch.cat(channel_errors).abs(), torch.cat(saturated)
    original = evaluate(EngineModule(graph), selection, preprocessing, batch=20)
    network.set_mode("quantize")
    made, conversion = convert(network)
    write_graph(made, FOLDER / by)
    answers = evaluate(EngineModule(made), selection, preprocessing, batch=20)
    worst = max(errors, key=lambda name: abs(errors[name]))
    return {
        "hidden_values": len(pairs),
        "factors": [SMALLEST, LARGEST],
        "seed": SEED,
        "logits_changed_by_rescaling": change,
        "tensors": len(errors),
        "tensors_within_2_percent": sum(abs(error) < 0.02 for error in errors.values()),
        "worst_tensor": [worst, errors[worst]],
        "range_errors": errors,
        "hidden_channels": len(channels),
        "hidden_channels_within_2_percent": int((channels < 0.02).sum()),
        "hidden_channels_that_reach_their_clip": int(reached.sum()),
        "of_them_within_2_percent": int((channels[reached] < 0.02).sum()),
        "calibration": report.config.model_dump(mode="json"),
        "rescale_error": conversion.largest_error,
        "selection": {"directory": figures(original), "calibrated": figures(answers, original)},
    }


def final() -> dict[str, Any]:
    """photos-500, once: the directory and the networks made anew."""
    photos = FilePhotos(DATA / "photos-500")
    graph = read_graph(MODEL)
    original = evaluate(EngineModule(graph), photos, graph.preprocessing, batch=20)
    found: dict[str, Any] = {"directory": figures(original)}
    for name in ("clips", "observed"):
        answers = evaluate(EngineModule(read_graph(FOLDER / name)), photos, graph.preprocessing, batch=20)
        found[name] = figures(answers, original)
        found[name]["same_class"] = sum(
            answers.predictions[index] == original.predictions[index] for index in answers.predictions
        )
    return found


STAGES = {"clips": lambda: run("clips"), "observed": lambda: run("observed"), "final": final}


def main(names: list[str]) -> None:
    """Run the stages named."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        stage(f"round-trip/{name}", STAGES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
