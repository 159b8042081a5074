"""Post-training W4A4 of ResNet-20 on CIFAR-10, on a split of the training set: what each method brings.

    python benchmarks/post_training.py --data ../shared/data [--images 1000] [--iterations 2000] [--json result.json]

The test set is not touched. Float weights are the published ones, trained on lossless images and not fine-tuned on
these JPEG files, so the float figure is lower than what a fine-tuned network reaches.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Preprocessing
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import Bits, QuantizeConfig
from nybble.quantize.data import Subset, ZipPhotos, batches
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.convert import convert
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.ptq.bias import correct_bias
from nybble.quantize.ptq.equalize import equalize
from nybble.quantize.ptq.mixed import choose_bits, engine_times, network_timer
from nybble.quantize.ptq.reconstruct import reconstruct
from nybble.quantize.ptq.sensitivity import sensitivity, top1
from nybble.quantize.settings import CalibrationConfig, ReconstructionConfig

SHAPE = (3, 32, 32)


class Block(nn.Module):
    """Two convolutions and a shortcut; option A where the size changes (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.more = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
        return torch.relu(y + x)


class ResNet20(nn.Module):
    """With the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10)."""
        y = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.linear(functional.avg_pool2d(y, 8).flatten(1))


def main() -> None:
    """Run what the command line asks for."""
    show = Console(soft_wrap=True, highlight=False).print
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000, help="for calibration and reconstruction")
    parser.add_argument("--selection", type=int, default=2000, help="images of the training set that figures are from")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--regularizer", type=float, default=ReconstructionConfig().regularizer)
    parser.add_argument("--rate", type=float, default=ReconstructionConfig().rate)
    parser.add_argument("--drop", type=float, default=ReconstructionConfig().drop)
    parser.add_argument("--speed", type=float, default=1.0, help="that mixed bits are to reach, times all-8-bit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="methods to run")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    module = ResNet20().eval()
    state = torch.load(arguments.data / "cifar10-resnet20" / "resnet20-12fca82f.th", map_location="cpu")["state_dict"]
    module.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    preprocessing = Preprocessing(resize=32, crop=(32, 32))
    photos = ZipPhotos(arguments.data / "cifar10-jpeg" / "train.zip")
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(20261126)).tolist()
    settings = CalibrationConfig(batch=50, workers=0, percentile=99.99)
    chosen = order[: arguments.images]
    shown = list(batches(Subset(photos, chosen), preprocessing, settings))
    rest = order[-arguments.selection :]
    selection = list(batches(Subset(photos, rest), preprocessing, settings))
    learning = ReconstructionConfig(
        images=None,
        iterations=arguments.iterations,
        regularizer=arguments.regularizer,
        rate=arguments.rate,
        drop=arguments.drop,
        seed=arguments.seed,
    )

    def prepared(bits: Bits = Bits.W4A4, **change: object) -> QuantizedNetwork:
        config = QuantizeConfig(bits=bits, calibration=settings.model_copy(update=change), reconstruction=learning)
        return prepare(module, SHAPE, config, preprocessing)

    def calibrated(network: QuantizedNetwork) -> QuantizedNetwork:
        calibrate(network, shown)
        snap_steps(network)
        return network

    results: dict[str, object] = {"images": arguments.images, "selection": arguments.selection}

    def report(name: str, network: QuantizedNetwork, begun: float, **more: object) -> None:
        accuracy = top1(network, selection)
        results[name] = {"top1": accuracy, "seconds": time.perf_counter() - begun, **more}
        show(f"{name:32} {accuracy:6.2f} %  {time.perf_counter() - begun:7.1f} s")

    def wanted(name: str) -> bool:
        return not arguments.only or name in arguments.only

    begun = time.perf_counter()
    report("float", prepared(), begun)
    for name, bits in (("w8a8", Bits.W8A8), ("w4a4", Bits.W4A4)):
        begun = time.perf_counter()
        report(f"{name} calibrated", calibrated(prepared(bits)), begun)
    if wanted("mse"):
        begun = time.perf_counter()
        report("w4a4 MSE ranges", calibrated(prepared(method="mse", weights="mse")), begun)
    if wanted("bias"):
        begun = time.perf_counter()
        network = calibrated(prepared(method="mse", weights="mse"))
        correct_bias(network, shown)
        report("w4a4 MSE + bias correction", network, begun)
    if wanted("equalize"):
        for data in (None, shown):
            begun = time.perf_counter()
            network = prepared(method="mse", weights="mse")
            equalize(network, data)
            report(f"w4a4 MSE + equalised {'weights' if data is None else 'activations'}", calibrated(network), begun)
    if wanted("reconstruct"):
        begun = time.perf_counter()
        network = calibrated(prepared(method="mse", weights="mse"))
        outcome = reconstruct(network, shown, progress=lambda *_: None)
        for block in outcome.blocks:
            show(f"  {block.name:20} {block.before:.5f} -> {block.after:.5f}  changed {block.changed:.1%} {block.kept}")
        report("w4a4 MSE + reconstructed", network, begun, **outcome.to_dict())
        convert(network)
    if wanted("mixed"):
        begun = time.perf_counter()
        eight, four = calibrated(prepared(Bits.W8A8)), calibrated(prepared(method="mse", weights="mse"))
        times, total = engine_times(eight, four, shown)
        measured = sensitivity(eight, four, selection, times, total, images=500)
        for row in measured.table():
            show("  " + " | ".join(row))
        choice = choose_bits(
            eight,
            four,
            measured,
            speed=arguments.speed,
            evaluate=lambda net: top1(net, selection),
            timer=network_timer(shown),
        )
        show(f"  {len(choice.four_bits)} groups in 4 bits, speed {choice.speed:.3f}")
        report(f"mixed, {arguments.speed:g} times w8a8", choice.network, begun, sensitivities=measured.to_dict())
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
