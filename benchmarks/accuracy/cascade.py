"""The bundled cascade of EfficientNet-Lite0 and ResNet-50: ``models/lite0-resnet50``.

``python benchmarks/accuracy/cascade.py calibrate final``

``calibrate`` finds temperatures by likelihood, and the threshold by the share of deferred photos, on the selection set:
the rows of imagenet-1k-one-each whose index is a multiple of 5. ``final`` answers photos-500 once, with the members,
the cascade, and the mean of both.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from records import DATA, WORK, stage

import nybble
from nybble.cli import app
from nybble.engine.ensemble import Member
from nybble.graph.types import Array
from nybble.images import LabelledFolder
from nybble.models import CASCADE, LARGER, SHIPPED, bundled
from nybble.quantize.data import FilePhotos, every
from nybble.statistics import Discordance, Share

FOLDER = WORK / "cascade"
FILE = Path(__file__).resolve().parents[2] / "models" / CASCADE / f"{CASCADE}.toml"
#: Of the photos, those that go to ResNet-50.
SHARE = 0.16


def selection() -> Path:
    """The selection set as a folder of its own, linked."""
    folder = FOLDER / "imagenet-1k-one-each-selection"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    photos = FilePhotos(DATA / "imagenet-1k-one-each")
    labels = {photo.file: photo.label for photo in LabelledFolder(DATA / "imagenet-1k-one-each")}
    names = [every(photos, 5).name(number) for number in range(len(every(photos, 5)))]
    for name in names:
        (folder / Path(name).name).symlink_to(DATA / "imagenet-1k-one-each" / name)
    rows = "".join(f"{Path(name).name},{labels[name]}\n" for name in names)
    (folder / "labels.csv").write_text(f"file,label\n{rows}", encoding="utf-8")
    return folder


def calibrate() -> dict[str, Any]:
    """Write the file."""
    FILE.unlink(missing_ok=True)
    words = ("calibrate-ensemble", SHIPPED, LARGER, "--images", selection(), "--defer", SHARE, "--out", FILE)
    app([str(word) for word in words], standalone_mode=False)
    return {"file": FILE.read_text(encoding="utf-8")}


def final() -> dict[str, Any]:
    """photos-500, once."""
    photos = LabelledFolder(DATA / "photos-500")
    labels = np.array([photo.label for photo in photos])
    said: dict[str, Array] = {}
    with nybble.load(bundled(CASCADE)) as cascade:
        assert isinstance(cascade, nybble.Cascade)  # noqa: S101
        mean = nybble.Ensemble([Member(one.engine, one.temperature, name=one.name) for one in cascade.members])
        asked = 0
        for first in range(0, len(labels), 20):
            batch = np.stack([cascade.prepare(photo.path, exif=False) for photo in photos[first : first + 20]])
            answers = cascade.answers(batch)
            asked += int((answers.asked > 1).sum())
            scores = {"cascade": answers.probabilities, "mean": mean.answers(batch).probabilities}
            scores |= dict(zip((SHIPPED, LARGER), cascade.logits(batch), strict=True))
            for name, some in scores.items():
                said[name] = np.append(said.get(name, np.zeros(0, np.int64)), some.argmax(axis=1))
    right = {name: best == labels for name, best in said.items()}
    best = max((SHIPPED, LARGER), key=lambda name: right[name].sum())
    return {
        "deferred": asked,
        "best_member": best,
        **{
            name: described(found, right[best] if name in ("cascade", "mean") else None)
            for name, found in right.items()
        },
    }


def described(right: Array, reference: Array | None) -> dict[str, Any]:
    """Top-1 with its interval, and discordant pairs against the best member."""
    share = Share(int(right.sum()), len(right))
    found: dict[str, Any] = {"right": share.right, "top1": share.value, "interval": share.interval}
    if reference is not None:
        pairs = Discordance(int((reference & ~right).sum()), int((right & ~reference).sum()), len(right))
        found["against_best"] = {
            "difference": pairs.difference,
            "interval": pairs.interval,
            "best_only": pairs.first_only,
            "this_only": pairs.second_only,
        }
    return found


STAGES = {"calibrate": calibrate, "final": final}


def main(names: list[str]) -> None:
    """Run the stages named."""
    for name in names:
        stage(f"cascade/{name}", STAGES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
