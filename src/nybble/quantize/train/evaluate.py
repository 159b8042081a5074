"""Top-1 and top-5 of a torch network, its interval, and where two networks differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from nybble.graph import Preprocessing
from nybble.progress import Progress, silent
from nybble.quantize.data import Loader, PhotoReport, Photos
from nybble.quantize.errors import QuantizeError
from nybble.statistics import Discordance, Share


@dataclass(frozen=True)
class Evaluation:
    """Answers of a network on photos.

    Attributes
    ----------
    top1, top5 : Share or None
        With :attr:`Share.interval`, Wilson's 95 %; ``None`` where the photos have no labels.
    loss : float or None
        Mean cross-entropy.
    predictions, labels : dict of int to int
        By the photo's number; a photo that could not be read has none. Without labels, ``labels`` is empty.
    report : PhotoReport
    """

    top1: Share | None
    top5: Share | None
    loss: float | None
    predictions: dict[int, int]
    labels: dict[int, int]
    report: PhotoReport

    def to_dict(self) -> dict[str, Any]:
        """Figures without the single answers, ready for JSON."""
        counted: dict[str, Any] = {}
        for name, share in (("top1", self.top1), ("top5", self.top5)):
            counted[name] = None if share is None else share.value
            counted[f"{name}_right"] = None if share is None else share.right
            counted[f"{name}_interval"] = None if share is None else share.interval
        return {
            "images": len(self.predictions),
            **counted,
            "loss": self.loss,
            "photos": self.report.to_dict(),
        }


def evaluate(
    network: nn.Module,
    photos: Photos,
    preprocessing: Preprocessing | None = None,
    *,
    batch: int = 32,
    workers: int = 0,
    progress: Progress = silent,
    what: str = "evaluating",
) -> Evaluation:
    """Run a network over photos, prepared as for the engine; accuracy is measured if all photos have labels.

    Parameters
    ----------
    network : nn.Module
        Float images (N, C, H, W) to logits (N, classes). A prepared network runs in the mode it is in.
    photos : Photos
    preprocessing : Preprocessing, optional
        By default the network's own.
    batch, workers : int
    progress : callable
    what : str
        The bar's description.

    Raises
    ------
    QuantizeError
        If a photo has a label beyond the classes, no photo can be read, or the logits are NaN.
    """
    preprocessing = preprocessing if preprocessing is not None else preprocessing_of(network)
    loader = Loader(photos, preprocessing, batch=batch, workers=workers)
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    predictions: dict[int, int] = {}
    labels: dict[int, int] = {}
    top5, loss = 0, 0.0
    labelled = photos.labelled
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for images, truth, indices in loader.in_order():
                logits = network(images.to(device)).float().cpu()
                if not bool(torch.isfinite(logits).all()):
                    raise QuantizeError("the network's logits are NaN or infinite; its weights or ranges are damaged")
                best = logits.topk(min(5, logits.shape[1]), dim=1).indices
                predictions.update(zip(indices.tolist(), best[:, 0].tolist(), strict=True))
                if labelled:
                    check_labels(truth, indices, photos, logits.shape[1])
                    top5 += int((best == truth[:, None]).any(dim=1).sum())
                    loss += float(functional.cross_entropy(logits, truth, reduction="sum"))
                    labels.update(zip(indices.tolist(), truth.tolist(), strict=True))
                progress(what, int(indices[-1]) + 1, len(photos))
    finally:
        network.train(was_training)
    progress(what, len(photos), len(photos))
    if not predictions:
        raise QuantizeError("there are no photos to evaluate on")
    right = sum(predictions[index] == label for index, label in labels.items())
    return Evaluation(
        top1=Share(right, len(labels)) if labelled else None,
        top5=Share(top5, len(labels)) if labelled else None,
        loss=loss / len(labels) if labelled else None,
        predictions=predictions,
        labels=labels,
        report=loader.report,
    )


def compare(first: Evaluation, second: Evaluation) -> Discordance:
    """Where two evaluations on the same photos differ: discordant pairs, interval, McNemar's test.

    Raises
    ------
    QuantizeError
        If the photos were not the same.
    """
    if first.labels != second.labels:
        raise QuantizeError("the two evaluations are not of the same photos and labels")
    pairs = [
        (first.predictions[index] == label, second.predictions[index] == label) for index, label in first.labels.items()
    ]
    return Discordance(pairs.count((True, False)), pairs.count((False, True)), len(pairs))


def agreement(first: Evaluation, second: Evaluation) -> Share:
    """How many photos two networks put into the same class, of those that both were shown."""
    common = first.predictions.keys() & second.predictions.keys()
    return Share(sum(first.predictions[index] == second.predictions[index] for index in common), len(common))


def preprocessing_of(network: nn.Module) -> Preprocessing:
    """The preprocessing that a prepared network carries.

    Raises
    ------
    QuantizeError
        If it has none.
    """
    preprocessing = getattr(network, "preprocessing", None)
    if not isinstance(preprocessing, Preprocessing):
        raise QuantizeError("the network carries no preprocessing; give one (prepare(..., preprocessing=...))")
    return preprocessing


def check_labels(labels: torch.Tensor, indices: torch.Tensor, photos: Photos, classes: int) -> None:
    """Raise QuantizeError for a photo without a label, or with one that the network has no class for."""
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        place = int(wrong[0])
        label = int(labels[place])
        raise QuantizeError(
            f"{photos.name(int(indices[place]))}: "
            + ("has no label" if label < 0 else f"label {label} is not in 0..{classes - 1}, the network's classes")
        )
