"""What the modules of a fake-quantized network have in common."""

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
        Whether it gives sums in the unit of the sums that its first input is.
    multiplies : bool
        Whether it gives the products of two activations, in the product of their units.
    joins_codes : bool
        Whether its result is codes of several inputs, copied.
    passes_factors : bool
        Whether positive factors by channel may be taken before it as well as behind it.
    """

    keeps_unit: ClassVar[bool] = False
    multiplies: bool = False
    joins_codes: ClassVar[bool] = False
    passes_factors: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.mode: Mode = "float"

    def precede(self, quantizer: ActivationQuantizer) -> None:
        """Take note that an unsigned quantizer is all that reads the result."""
        return


class Returned(FakeOperation):
    """An output of a network that is not a classifier: the value itself.

    Attributes
    ----------
    label : str
        What the output is called.
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x
