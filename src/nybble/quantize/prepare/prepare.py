"""Putting quantizers into a captured network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nybble.graph import Preprocessing
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ir.float_network import FloatNetwork, Weighted
from nybble.quantize.ir.fold import fold
from nybble.quantize.ops import operation_of
from nybble.quantize.prepare.preparation import Preparation
from nybble.quantize.sources.pytorch.capture import capture


def prepare(
    module: nn.Module,
    example_input_shape: tuple[int, int, int],
    config: QuantizeConfig | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    *,
    output: str | int | None = None,
) -> QuantizedNetwork:
    """Capture a network, fold batch norm into it and put quantizers where the integer network rounds.

    Weight ranges are set to each channel's largest magnitude; those of activations wait for calibration.

    Parameters
    ----------
    module : nn.Module
        A trained classifier. It is not changed; its weights are copied.
    example_input_shape : tuple of int
        (C, H, W) of the images.
    config : QuantizeConfig, optional
        By default ``w4a4``. The filled-in one is the result's ``config``.
    preprocessing : Preprocessing, optional
        How photos become the input. It is stored with the network and determines the input's range.
    class_names : sequence of str, optional
    output : str or int, optional
        Which output of the module the logits are, as :func:`~nybble.quantize.sources.pytorch.capture.capture` takes it.

    Returns
    -------
    QuantizedNetwork
        In mode ``float``, where it answers as ``module`` does in evaluation mode.

    Raises
    ------
    CaptureError
        Naming the source line of what cannot be captured.
    QuantizeError
        If the configuration names layers or values that do not exist, or the preprocessing makes images of another
        shape.
    """
    rows_and_columns = tuple(example_input_shape[1:])
    if preprocessing is not None and (len(preprocessing.mean), *preprocessing.crop) != tuple(example_input_shape):
        raise QuantizeError(
            f"preprocessing makes images of {len(preprocessing.mean)} channels and {preprocessing.crop} pixels, "
            f"but the network is prepared for {example_input_shape[0]} and {rows_and_columns}"
        )
    network = fold(capture(module, example_input_shape, output=output))
    return prepare_captured(network, config or QuantizeConfig(), preprocessing, class_names)


def prepare_captured(
    network: FloatNetwork,
    config: QuantizeConfig,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
) -> QuantizedNetwork:
    """As :func:`prepare`, for a network that is captured and folded already."""
    preparation = Preparation(network, config, preprocessing, class_names)
    for op in network:
        preparation.depth[op.name] = max(preparation.depth[name] for name in op.inputs) + isinstance(op, Weighted)
        operation_of(op).prepare(op, preparation)
    return preparation.finish()
