"""The outputs of a module: finds the logits, or the outputs of a network that is not a classifier."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nybble.quantize.errors import CaptureError

#: Outputs listed in an error.
_SHOWN = 8
#: Stands for every output.
ALL = "*"


class Classifier(nn.Module):
    """A module that takes one float32 tensor (N, C, H, W) and returns one tensor of logits.

    Parameters
    ----------
    module : nn.Module
    output : str
        Which of its outputs, as :func:`named_outputs` calls it.
    ending : str
        ``softmax`` where it returns probabilities: their logarithms are logits.
    """

    def __init__(self, module: nn.Module, output: str = "", ending: str = "") -> None:
        super().__init__()
        self.module = module
        self.output = output
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        found = dict(named_outputs(self.module(x)))[self.output]
        return found.clamp_min(torch.finfo(torch.float32).tiny).log() if self.ending == "softmax" else found


class Tensors(nn.Module):
    """A module that takes one tensor and returns some of its outputs, in a tuple.

    Parameters
    ----------
    module : nn.Module
    outputs : sequence of str
        As :func:`named_outputs` calls them.
    """

    def __init__(self, module: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.outputs = tuple(outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The tensors in the order of their names."""
        found = dict(named_outputs(self.module(x)))
        return tuple(found[name] for name in self.outputs)


def named_outputs(result: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a result, with their keys, fields and indices joined by dots; what is None is left out.

    Mappings, tuples, lists and dataclasses are searched, including a ModelOutput of `transformers`.
    """
    if isinstance(result, Tensor):
        yield name, result
        return
    parts: list[tuple[Any, Any]] = []
    if isinstance(result, Mapping):
        parts = list(result.items())
    elif isinstance(result, tuple) and hasattr(result, "_fields"):
        parts = list(zip(result._fields, result, strict=True))
    elif isinstance(result, tuple | list):
        parts = list(enumerate(result))
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        parts = [(field.name, getattr(result, field.name)) for field in dataclasses.fields(result)]
    for key, part in parts:
        yield from named_outputs(part, f"{name}.{key}" if name else str(key))


def choose_outputs(kind: str, result: Any, output: str | int | None) -> tuple[str, ...]:
    """The name of the logits among a module's outputs, or the names of all outputs of what is not a classifier.

    Parameters
    ----------
    kind : str
        What errors call the module.
    result
        What it returned for a batch.
    output : str or int, optional
        The choice: a name, a place among the tensors, or ``*`` for all. Without one it is the one tensor, the one
        (N, classes), or all where none is (N, classes).

    Raises
    ------
    CaptureError
        Listing the outputs.
    """
    found = list(named_outputs(result))
    names = tuple(name for name, _ in found)
    if not found:
        raise CaptureError(f"{kind}: returns {type(result).__name__} without a tensor; it must return logits")
    listed = ", ".join(f"{name or 'the result'} {_shape(tensor)}" for name, tensor in found[:_SHOWN])
    if output == ALL and ALL not in names:
        return names
    if output is not None:
        place = int(output) if isinstance(output, int) or output.isdecimal() else None
        if isinstance(output, str) and output in names:
            return (output,)
        if place is not None and -len(found) <= place < len(found):
            return (names[place],)
        raise CaptureError(f"{kind}: has no output {output!r}; choose one of {listed}")
    if len(found) == 1:
        return names
    logits = tuple(name for name, tensor in found if is_logits(tensor))
    if len(logits) == 1:
        return logits
    if not logits:
        return names
    raise CaptureError(
        f"{kind}: returns {len(found)} values; choose the logits (N, classes) by output=NAME (--output NAME), or all "
        f"values by output={ALL!r}: {listed}"
    )


def is_logits(tensor: Tensor) -> bool:
    """Whether a tensor has the shape (N, classes), perhaps with axes of 1 behind."""
    shape = tuple(tensor.shape)
    return len(shape) >= 2 and tensor.is_floating_point() and math.prod(shape[1:]) == shape[1] > 1


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, ('N', *tensor.shape[1:])))})" if tensor.dim() else "()"
