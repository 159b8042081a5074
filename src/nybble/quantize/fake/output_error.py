"""The error of the outputs of a network that is not a classifier, compared with the float network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def output_error(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Squared error of outputs as a share of their variance in the teacher, averaged over the outputs.

    The variance is that around each channel's mean, so that the few high scores count if most are low.

    Parameters
    ----------
    student, teacher : mapping of str to Tensor
        (N, C, ...) by name.
    """
    shares = []
    for name, wanted in teacher.items():
        exact = wanted.float()
        around = exact - exact.mean([0, *range(2, exact.dim())], keepdim=True)
        variance = around.square().sum().clamp_min(1e-12)
        shares.append((student[name].float() - exact).square().sum() / variance)
    return torch.stack(shares).mean()
