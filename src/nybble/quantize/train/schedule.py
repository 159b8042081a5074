"""The learning rate as a function of the step: nothing to store, nothing to resume."""

from __future__ import annotations

import math

from nybble.quantize.settings import TrainingConfig


def rate(step: float, steps: int, warmup: float, final_share: float) -> float:
    """Share of the learning rate at a step, 0 to 1: linear up to ``warmup``, then a cosine (Loshchilov 2017).

    The first step of a warm-up of ``w`` steps has the share ``1 / (w + 1)``, so that none is without effect; the last
    step of all comes to just above ``final_share``.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1.0, steps - warmup))
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizer: object, config: TrainingConfig, step: int, steps_an_epoch: int) -> float:
    """Set the learning rate of every parameter group (each has its ``factor``); return that of weights."""
    steps = config.epochs * steps_an_epoch
    share = rate(step, steps, config.warmup_epochs * steps_an_epoch, config.final_share)
    current = config.learning_rate * share
    for group in optimizer.param_groups:  # type: ignore[attr-defined]
        group["lr"] = current * group["factor"]
    return current
