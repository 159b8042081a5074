"""Which parameters decay, and the optimizer over them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nybble.quantize.settings import TrainingConfig


def parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Weights decay; biases, batch norms' parameters and learned step sizes do not.

    A weight is a parameter of two dimensions or more; everything else is a vector or a scalar. Learned steps (named
    ``scale``) have a learning rate of their own, by ``config.scale_rate``; at 0 they are left out.
    """
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    scales: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.rpartition(".")[2] == "scale":
            scales.append(parameter)
        else:
            (weights if parameter.dim() > 1 else others).append(parameter)
    groups = [
        {"params": weights, "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": others, "weight_decay": 0.0, "factor": 1.0},
        {"params": scales, "weight_decay": 0.0, "factor": config.scale_rate},
    ]
    return [group for group in groups if group["params"] and group["factor"]]


def make_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, or AdamW."""
    groups = parameter_groups(network, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
