"""A demo's result with two networks, a wrong answer, and names that are markup."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nybble.demo import Answer, Column, DemoResult, Detector, Network, Sample, Shown, Speed
from nybble.models import Found
from nybble.tasks import Detections

LIVE = Column("tiny now", "4-bit", False, "run here, now, by nybble", 3_200_000)
PAST = Column("tiny float", "float", True, "PyTorch & <friends>", 18_500_000)
BOTH = Column("both now", "cascade", False, "run here, now, by nybble", 17_000_000)


def demo_result(folder: Path) -> DemoResult:
    """Its photos lie in the folder."""
    noise = np.random.default_rng(3).integers(0, 256, (300, 900, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(folder / name)
    answers = {
        "tiny float": [Answer(index=7, name="cock", score=0.9), Answer(index=8, name="hen", score=0.05)],
        "tiny now": [Answer(index=8, name="hen", score=0.62), Answer(index=7, name="cock <b>", score=0.2)],
        "both now": [Answer(index=7, name="cock", score=0.51)],
    }
    tiny = Found(folder, "tiny <model>", "the one asked for")
    both = Found(folder / "both.toml", "both", "comes with nybble")
    return DemoResult(
        made="2026-11-26T04:00:00+00:00",
        version="0.1.0",
        machine={"cpu": "A processor", "usable_cpus": 2, "system": "Linux 6", "flags": []},
        isa="avx2",
        threads=1,
        networks=(
            Network(tiny, 0.25, 0.879, True, (PAST, LIVE), "2026-11-26, python record.py"),
            Network(both, 0.5, None, True, (BOTH,), remark="ran tiny on 2, other on 1 of 2 photos"),
        ),
        photos=(
            Shown(Sample("a.png", "a hen", (8,), "so it is said"), folder / "a.png", answers),
            Shown(Sample("b.png", "nothing"), folder / "b.png", dict(list(answers.items())[1:])),
        ),
        speeds=tuple(
            Speed(network, bits, batch, speed * batch, 5)
            for batch in (1, 8)
            for network, bits, speed in (("tiny", "4-bit", 80.0), ("larger", "4-bit", 50.0), ("larger", "8-bit", 25.0))
        ),
        disturbance=None,
        notes=("b.png: not recorded",),
        detectors=(
            Detector(
                Found(folder, "finder", "comes with nybble"), 0.1, 280_000, {"a.png": _boxes(), "b.png": _boxes(0)}
            ),
        ),
    )


def _boxes(count: int = 1) -> Detections:
    """A box on a hen, or none."""
    boxes = np.asarray([[10, 20, 400, 250]], np.float32)[:count]
    return Detections(boxes, np.full(count, 0.7, np.float32), np.zeros(count, np.int64), ("hen <i>",))
