"""How long, and in how much memory, a network is calibrated: `calibration.py --images DIR [--count 500]`.

The network has torchvision's architecture with random weights: time does not depend on them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision

from nybble.cli.progress import nested_bars
from nybble.graph import Preprocessing
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.data import batches, open_photos
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.settings import CalibrationConfig


def main() -> None:
    """Prepare, calibrate, print seconds, images per second and the largest resident memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--network", default="resnet50", help="a classifier of torchvision")
    parser.add_argument("--batch", type=int, default=CalibrationConfig().batch)
    parser.add_argument("--workers", type=int, default=CalibrationConfig().workers)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--report", type=Path, help="draw the histograms here", metavar="PNG")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    config = CalibrationConfig(images=arguments.count, batch=arguments.batch, workers=arguments.workers)
    preprocessing = Preprocessing()
    begun = time.perf_counter()
    module = torchvision.models.get_model(arguments.network, weights=None).eval()
    network = prepare(module, (3, 224, 224), QuantizeConfig(calibration=config), preprocessing)
    prepared = time.perf_counter()
    source = batches(open_photos(arguments.images), preprocessing, config)
    with nested_bars() as progress, tempfile.TemporaryDirectory() as work:
        report = calibrate(network, source, config, work=Path(work), progress=progress)
    ended = time.perf_counter()
    if arguments.report:
        report.save_png(arguments.report)
    memory, workers = (
        resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    seconds = ended - prepared
    lines = (
        f"network   {arguments.network}, {len(report.tensors)} tensors, {torch.get_num_threads()} threads",
        f"prepare   {prepared - begun:.1f} s",
        f"calibrate {seconds:.1f} s, {report.images} images, {report.images / seconds:.1f} a second",
        f"memory    {memory:.2f} GiB, and {workers:.2f} GiB in the largest of {config.workers} workers",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
