"""Finished evaluations in the work folder, which a resumed run does not repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nybble.quantize import atomic
from nybble.quantize.data import PhotoReport, Photos
from nybble.quantize.train import Evaluation
from nybble.statistics import Share

_KINDS = ("gray", "cmyk", "tiny")


def evaluated(
    folder: Path, name: str, network: nn.Module, photos: Photos, about: str, evaluate: Callable[[], Evaluation]
) -> Evaluation:
    """The evaluation stored as ``name`` if it is of this network on these photos, else a new one, stored."""
    key = f"{digest_of(network)} {photos.fingerprint} {about}"
    path = folder / f"{name}.pt"
    state = atomic.load(path)
    if state is not None and state.get("key") == key:
        return _unpacked(state["evaluation"])
    found = evaluate()
    atomic.save(path, {"key": key, "evaluation": _packed(found)})
    return found


def remembered(folder: Path, name: str, key: str, report: PhotoReport) -> dict[str, Any]:
    """What was unusual about photos, with those that an earlier part of the run could not use; empty if unknown."""
    path = folder / f"{name}-photos.pt"
    state = atomic.load(path)
    earlier: dict[str, Any] = state["photos"] if state is not None and state.get("key") == key else {}
    if not report.read:
        return earlier
    found = report.to_dict()
    names = {entry["name"] for entry in found["failed"]}
    found["failed"] += [entry for entry in earlier.get("failed", ()) if entry["name"] not in names]
    atomic.save(path, {"key": key, "photos": found})
    return found


def digest_of(network: nn.Module) -> str:
    """A digest of names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _packed(found: Evaluation) -> dict[str, Any]:
    report = found.report
    return {
        "top1": None if found.top1 is None else list(found.top1),
        "top5": None if found.top5 is None else list(found.top5),
        "loss": found.loss,
        "predictions": found.predictions,
        "labels": found.labels,
        "report": {
            "read": sorted(report.read),
            "failed": report.failed,
            **{kind: getattr(report, kind) for kind in _KINDS},
        },
    }


def _unpacked(state: dict[str, Any]) -> Evaluation:
    report = state["report"] | {"read": set(state["report"]["read"])}
    return Evaluation(
        top1=None if state["top1"] is None else Share(*state["top1"]),
        top5=None if state["top5"] is None else Share(*state["top5"]),
        loss=state["loss"],
        predictions=state["predictions"],
        labels=state["labels"],
        report=PhotoReport(**report),
    )
