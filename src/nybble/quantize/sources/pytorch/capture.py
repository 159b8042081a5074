"""From an ``nn.Module`` to a :class:`FloatNetwork`, by way of ``torch.export``.

``torch.export`` runs the module's own Python once on stand-ins for tensors, so the way in which a network is written
(modules or functions, computed padding, in-place or not) does not matter: the result consists of functional ATen
operations. No network is treated specially.
"""

from __future__ import annotations

import copy
import io
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn

from nybble.quantize.errors import CaptureError
from nybble.quantize.ir.float_network import FloatNetwork, RecordedModule, Result
from nybble.quantize.sources.pytorch.outputs import Classifier, Tensors, choose_outputs, named_outputs
from nybble.quantize.sources.pytorch.source_lines import frames_of, recorded, user_line
from nybble.quantize.sources.pytorch.walk import BATCH, Walk

#: The name of the output of a module that is not a classifier.
OUTPUT = "output"
#: Largest difference between module and captured network, relative to the largest logit.
_TOLERANCE = 1e-3
#: Characters of another package's error that nybble's error repeats.
_LONGEST = 200
#: The remedy for a module that fails.
_ADVICE = "the network must take one tensor (N, C, H, W) of this size and must not decide anything by its values"
_ADVICE_SINGLE = f"{_ADVICE}; its weights were converted to float32, so it must not cast what it reads to another type"
_ENDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(1),
    "log_softmax": lambda logits: logits.log_softmax(1),
}


def capture(module: nn.Module, input_shape: tuple[int, int, int], *, output: str | int | None = None) -> FloatNetwork:
    """Record what a network computes in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Takes one tensor (N, C, H, W) and returns tensors, alone or in a mapping, tuple, list or dataclass. It is not
        changed. A module in float64, float16 or bfloat16 is captured as float32.
    input_shape : tuple of int
        (C, H, W). Shapes are fixed from here on.
    output : str or int, optional
        Which of several outputs the logits are: a key, field or index (those of nested ones joined by dots), or the
        place among all tensors. Not needed where there is one tensor, or one of the shape (N, classes). ``*`` takes all
        outputs; so does leaving it out where none of several is (N, classes).

    Returns
    -------
    FloatNetwork
        Of one output, a softmax at the end is left out; ``ending`` says so. Several are named in ``outputs``.

    Raises
    ------
    CaptureError
        If an operation cannot be expressed, naming it and its source line, or if the answers of the recorded network
        differ from the module's.
    """
    return capture_with_module(module, input_shape, output=output)[0]


def capture_with_module(
    module: nn.Module, input_shape: tuple[int, int, int], *, output: str | int | None = None
) -> tuple[FloatNetwork, nn.Module]:
    """As :func:`capture`; with the module as one that returns one tensor alone, in float32.

    What is no (N, classes) becomes an output of a network that is not a classifier, called ``output``.

    Returns
    -------
    FloatNetwork
    nn.Module
        ``module`` itself where it does that already; else a :class:`Classifier` of it, or of a float32 copy.

    Raises
    ------
    CaptureError
        As :func:`capture`.
    """
    if isinstance(module, RecordedModule):
        if output is not None:
            raise CaptureError(f"{type(module).__name__}: has one output; output={output!r} cannot choose another")
        network = module.recorded(input_shape)
        return network, module
    single = _single(module)
    network, name = _captured(single, input_shape, output, _ADVICE if single is module else _ADVICE_SINGLE)
    if network.outputs:
        return network, single
    shape = network[network.output].shape
    if math.prod(shape[1:]) != 1:
        result = Result(name=f"{OUTPUT}.result", inputs=(network.output,), shape=shape, place="", label=OUTPUT)
        network.ops.append(result)
        network.outputs = (OUTPUT,)
    if not name and single is module and network.ending != "softmax":
        return network, module
    return network, Classifier(single, name, network.ending).train(module.training)


def _single(module: nn.Module) -> nn.Module:
    """The module, or a copy in float32 if it computes in another floating-point type."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    if all(tensor.dtype is torch.float32 for tensor in tensors if tensor.is_floating_point()):
        return module
    try:
        copied = copy.deepcopy(module)
    except Exception as error:  # Whatever the module's own code raises.
        raise CaptureError(
            f"{type(module).__name__}: is not float32 and cannot be copied: {_reason(error)}; call .float() before"
        ) from error
    return copied.float()


def _captured(
    module: nn.Module, input_shape: tuple[int, int, int], output: str | int | None, advice: str
) -> tuple[FloatNetwork, str]:
    training = {name: child.training for name, child in module.named_modules()}
    module.eval()
    generator = torch.Generator().manual_seed(0)
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    example = torch.randn(BATCH, *input_shape, generator=generator).to(device)
    kind = type(module).__name__
    try:
        with _foreign(kind, advice):
            result = module(example.clone())
        names = choose_outputs(kind, result, output)
        returned = dict(named_outputs(result))
        whole = Classifier(module, names[0]) if len(names) == 1 else Tensors(module, names)
        with _foreign(kind, advice), recorded():
            # Without decompositions this only makes every operation functional, aliases and all.
            program = torch.export.export(whole.eval(), (example,), strict=False)
            program = program.run_decompositions({})
        network = Walk(program, input_shape, kind, "module", names if len(names) > 1 else ()).network()
        if network.outputs:
            _check_tensors([returned[name] for name in names], network, example, kind)
            return network, ""
        name, expected = names[0], returned[names[0]]
        _check(expected, network, example, kind)
    finally:
        for path, child in module.named_modules():
            child.training = training.get(path, child.training)
    return network, name


@contextmanager
def _foreign(kind: str, advice: str) -> Iterator[None]:
    """Run the module's own code: whatever it raises is named with its line; torch's own reports are kept back."""
    with torch.no_grad(), _quiet():
        try:
            yield
        except Exception as error:  # Whatever the module's own code raises.
            raise CaptureError(
                f"{user_line(frames_of(error)) or kind}: cannot be captured: {_reason(error)}; {advice}"
            ) from error


def _reason(error: Exception) -> str:
    text = str(error).strip().split("\n")[0][:_LONGEST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own reports back: the error says what matters."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.fx.experimental.symbolic_shapes", "torch.export")]
    levels = [logger.level for logger in loggers]
    # A graph that fails is printed to stderr as well.
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _check_tensors(expected: Sequence[Tensor], network: FloatNetwork, example: Tensor, kind: str) -> None:
    """Compare all outputs of a network that is not a classifier with those of the module."""
    found = network.returned(example)
    for name, wanted in zip(network.outputs, expected, strict=True):
        if not bool(torch.isfinite(wanted).all()):
            raise CaptureError(
                f"{kind}: gives NaN or infinity for a drawn image; its weights are broken, or not loaded"
            )
        if found[name].shape != wanted.shape:
            raise AssertionError(f"{name}: {tuple(found[name].shape)} was captured as {tuple(wanted.shape)}")
        difference = float((found[name] - wanted.detach().float()).abs().max())
        if not difference <= _TOLERANCE * max(1e-6, float(wanted.abs().max())):
            raise CaptureError(
                f"{kind}: the captured network's {name} differs from the module's by {difference:.3g}: it does "
                "something that is not among its operations (random numbers, or values computed while it was recorded)"
            )


def _check(expected: Any, network: FloatNetwork, example: Tensor, kind: str) -> None:
    expected = expected.detach().float()
    if not bool(torch.isfinite(expected).all()):
        raise CaptureError(f"{kind}: gives NaN or infinity for a drawn image; its weights are broken, or not loaded")
    found = network(example)
    if found.numel() != expected.numel() or len(found) != len(expected):
        raise CaptureError(f"{kind}: the output must be logits (N, classes), but has the shape {tuple(expected.shape)}")
    found = _ENDINGS[network.ending](found.flatten(1)).reshape(expected.shape)
    difference = float((found - expected).abs().max())
    if not difference <= _TOLERANCE * max(1e-6, float(expected.abs().max())):
        raise CaptureError(
            f"{kind}: the captured network's logits differ from the module's by {difference:.3g}: it does something "
            "that is not among its operations (random numbers, or values computed while it was recorded)"
        )
