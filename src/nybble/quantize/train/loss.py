"""The loss of fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.settings import TrainingConfig


def loss(logits: Tensor, labels: Tensor, teacher: Tensor | None, config: TrainingConfig) -> Tensor:
    """Cross-entropy with label smoothing (Szegedy et al. 2016), blended with the teacher's answer.

    Parameters
    ----------
    logits : Tensor
        float (N, classes).
    labels : Tensor
        int64 (N,).
    teacher : Tensor, optional
        The float network's logits (N, classes). With it, ``config.distillation`` of the loss is the Kullback-Leibler
        divergence at ``config.temperature``, times its square so that gradients keep their size (Hinton et al. 2015).

    Returns
    -------
    Tensor
        float32 scalar: the mean over the batch.
    """
    logits = logits.float()
    share = config.distillation if teacher is not None else 0.0
    total = logits.new_zeros(())
    if share < 1:
        total = (1 - share) * functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    if teacher is not None and share > 0:
        t = config.temperature
        divergence = functional.kl_div(
            functional.log_softmax(logits / t, dim=1),
            functional.log_softmax(teacher.float() / t, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        total = total + share * t * t * divergence
    return total


def feature_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Squared error of values as a share of the teacher's energy, averaged over the values (Romero et al. 2015)."""
    shares = [
        (student[name].float() - wanted.float()).square().sum() / wanted.float().square().sum().clamp_min(1e-12)
        for name, wanted in teacher.items()
    ]
    return torch.stack(shares).mean()


def damping_loss(layers: Iterable[QuantizedLayer]) -> Tensor:
    """Squared distance of weights of up to 4 bits from their codes, summed.

    It damps oscillation between two codes (Nagel et al. 2022, "Overcoming Oscillations in Quantization-Aware
    Training"). Weights beyond the range of the codes do not oscillate; they have no part in it. Codes and steps get no
    gradient.
    """
    total = torch.zeros(())
    for layer in layers:
        quantizer, weight = layer.weight_quantizer, layer.weight
        if quantizer.bits <= 4:
            with torch.no_grad():
                step = quantizer.shaped(weight).detach()
                rounded = quantizer.codes(weight) * step
                inside = (weight >= quantizer.low * step) & (weight <= quantizer.high * step)
            total = total.to(weight.device) + ((weight - rounded) * inside).square().sum()
    return total


def mixed(images: Tensor, alpha: float, random: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """Blend each image with another of the batch (Zhang et al. 2018).

    Returns
    -------
    tuple
        Images of the same shape; the number of each one's partner, int64 (N,); the share of the first.
    """
    share = float(random.beta(alpha, alpha))
    partners = torch.from_numpy(random.permutation(len(images))).to(images.device)
    return torch.lerp(images[partners], images, share), partners, share
