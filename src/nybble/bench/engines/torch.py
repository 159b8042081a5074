"""PyTorch, in float only."""

from __future__ import annotations

from typing import Any

from .base import Array, Engine, RunAll, one_at_a_time


def open_torch(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """PyTorch: the float model traced and frozen, channels last.

    Not ``optimize_for_inference``: its fused layers answered wrongly (torch 2.14.1; 81 % where float has 91 %).
    """
    import torch

    from .torch_model import load_onnx

    torch.set_num_threads(setup["threads"])
    torch.set_grad_enabled(False)
    height, width, channels = setup["shape"]
    example = torch.zeros(1, channels, height, width).to(memory_format=torch.channels_last)
    model = load_onnx(setup["model"]).eval().to(memory_format=torch.channels_last)
    traced = torch.jit.freeze(torch.jit.trace(model, example))

    def run(photos: Array) -> Array:
        logits: Array = traced(torch.from_numpy(photos).to(memory_format=torch.channels_last)).numpy()
        return logits

    return one_at_a_time(run), {"version": torch.__version__}


ENGINE = Engine(open_torch, ("torch", "onnx"), "torch", "pip install torch", modes=("latency",))
