"""The base of the modules of a fake-quantized network."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nybble.quantize.fake.quantizers import ActivationQuantizer, Mode


class FakeOperation(nn.Module):
    """A step's module that is not a quantizer and has no weights.

    Attributes
    ----------
    mode : str
        ``float``, ``clip`` or ``quantize``; set by the network.
    keeps_unit : bool
        Whether its result is sums in the unit of its first input, which is sums.
    multiplies : bool
        Whether its result is the products of two activations, in the product of their units.
    joins_codes : bool
        Whether its result consists of copied codes of several inputs.
    passes_factors : bool
        Whether it commutes with positive factors by channel.
    """

    keeps_unit: ClassVar[bool] = False
    multiplies: bool = False
    joins_codes: ClassVar[bool] = False
    passes_factors: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.mode: Mode = "float"

    def precede(self, quantizer: ActivationQuantizer) -> None:
        """Record that an unsigned quantizer is the only reader of the result."""
        return


class Returned(FakeOperation):
    """An output of a network that is not a classifier: the value itself.

    Attributes
    ----------
    label : str
        The name of the output.
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x
