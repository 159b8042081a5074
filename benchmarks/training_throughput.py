"""Images per second of fine-tuning beside a plain torch loop with the same fake quantizers, interleaved.

`training_throughput.py --images DIR_OR_ZIP [--network resnet18] [--rounds 3]`: both train one prepared network, with
the same optimizer, batch and photos; the plain loop has those decoded in memory and does nothing else. Beside images a
second stand those a second of processor time, which other work on the machine disturbs less: there fine-tuning's whole
call counts, with decoding where `--workers 0`, and checkpoints.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from torch.nn import functional

from nybble.graph import Preprocessing
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.data import Loader, Photos, batches, draw, open_photos
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.settings import CalibrationConfig, TrainingConfig
from nybble.quantize.train import finetune
from nybble.quantize.train.evaluate import preprocessing_of


def main() -> None:
    """Print images per second of both, round by round, and the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--network", default="resnet18", help="a classifier of torchvision")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--method", choices=("ste", "lsq"), default="ste")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    size = arguments.size
    preprocessing = Preprocessing(resize=size * 8 // 7, crop=(size, size))
    photos = draw(open_photos(arguments.images), arguments.batch * arguments.steps)
    training = TrainingConfig(
        epochs=1, batch=arguments.batch, workers=arguments.workers, range_batches=0, learning_rate=1e-4, warmup_epochs=0
    )
    calibration = CalibrationConfig(images=16, workers=0)
    module = torchvision.models.get_model(arguments.network, weights=None).eval()
    config = QuantizeConfig(method=arguments.method, calibration=calibration, training=training)
    network = prepare(module, (3, size, size), config, preprocessing)
    calibrate(network, batches(photos, preprocessing, calibration))

    ours, plain = [], []
    for number in range(arguments.rounds + 1):
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as work:
            result = finetune(network, photos, None, training, work=work, device="cpu")
        ours_cpu = len(photos) / (time.process_time() - begun)
        rates = (result.epochs[0]["images_per_second"], *plain_rates(network, photos, training))
        sys.stdout.write(
            f"round {number}: finetune {rates[0]:.2f}, plain loop {rates[1]:.2f} images per second; "
            f"of processor time {ours_cpu:.2f} and {rates[2]:.2f}\n"
        )
        if number:  # The first one warms up.
            ours.append(rates[0])
            plain.append(rates[1])
    ratio = statistics.median(ours) / statistics.median(plain)
    sys.stdout.write(f"finetune has {ratio:.1%} of the plain loop's throughput (medians of {arguments.rounds})\n")


def plain_rates(network: QuantizedNetwork, photos: Photos, config: TrainingConfig) -> tuple[float, float]:
    """Images per second, and a second of processor time, of forward, loss, backward and step, on tensors in memory."""
    loader = Loader(photos, preprocessing_of(network), batch=config.batch, augmentation=config.augmentation)
    groups = [range(first, first + config.batch) for first in range(0, len(loader.photos), config.batch)]
    ready = list(loader.load(groups))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)
    network.train()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    for images, labels, _ in ready:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    return len(photos) / seconds, len(photos) / cpu


if __name__ == "__main__":
    main()
