"""The interface of a float operation: everything that quantization needs to know about one kind of operation.

A new operation is a file of this folder and its line in ``ops/__init__.py``; one of another package is an instance of
:class:`FloatOperation`, named by an entry point of the group ``nybble.float_operations`` or given to
:func:`~nybble.quantize.ops.registry.register`. The file holds:

1. The operation in floating point, as data: a subclass of :class:`~nybble.quantize.ir.float_network.Op`, with what
   other parts ask of any operation (``keeps_codes``, ``input_bits``, ``is_nonnegative``).
2. Its :class:`~nybble.quantize.ops.forms.Forms`: which ATen operations and which ONNX operators mean it. Both handlers
   build the same ``Op``. A handler that returns ``None`` leaves the call to the next operation that has the same form.
3. A fake-quantized module (:class:`~nybble.quantize.fake.operation.FakeOperation`), if none of those that are there
   will do. It computes what the integer network computes, with a straight-through gradient.
   A step that makes codes of other codes is a subclass of
   :class:`~nybble.quantize.fake.quantizers.ActivationQuantizer`, which calibration then finds like any other;
   ``preparation.quantizer(..., make=...)`` makes it.
4. A :class:`FloatOperation` that names these three, and says where quantizers go (``prepare``), what becomes of the
   module in the graph (``convert``), and of the graph's node on the way back (``restore``). Its ``examples`` are small
   networks; ``tests/quantize/test_float_operations.py`` runs them, from both front ends to the engine and back.

**Compositions.** Exporters write ``SiLU`` as ``x * sigmoid(x)`` and ``HardSwish`` as ``x * relu6(x + 3) / 6``. Handlers
do not look at their neighbours; each front end captures every part as an ``Op`` of its own. Then each operation's
:meth:`FloatOperation.rewrite` sees the whole network, before anything is folded, and may put one ``Op`` in place of
several. :func:`~nybble.quantize.ir.rewriting.region` gives it what a value is computed from, up to one source,
:func:`~nybble.quantize.ir.rewriting.extended` with the elementwise operations around it, and
:func:`~nybble.quantize.ir.rewriting.replace_region` puts the ``Op`` there. An ``Op`` that says ``is_elementwise`` may
be part of such a region. What is left that has no integer form is refused by ``prepare``, with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from nybble.graph import Node, Quantize
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.float_network import FloatNetwork, Op
from nybble.quantize.ops.examples import FloatExample
from nybble.quantize.ops.forms import Forms

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation


class FloatOperation:
    """One kind of operation, from the front ends to the integer graph and back.

    Attributes
    ----------
    forms : Forms
        Calls of ATen and nodes of ONNX that mean it.
    ops : tuple of type
        Its classes in the float ir.
    modules : tuple of type
        Its fake-quantized modules; subclasses of these are its own too, unless another operation names them.
    nodes : tuple of type
        Nodes of the integer graph that :meth:`restore` takes.
    joins_codes : bool
        Whether a node's result has the codes of several values beside each other, which must have one step.
    """

    forms: ClassVar[Forms] = Forms()
    ops: ClassVar[tuple[type[Op], ...]] = ()
    modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    nodes: ClassVar[tuple[type[Node], ...]] = ()
    joins_codes: ClassVar[bool] = False

    def examples(self) -> Iterator[FloatExample]:
        """Small networks that contain it. The table-driven tests run every registered operation on them."""
        yield from ()

    def rewrite(self, network: FloatNetwork) -> None:
        """Replace other operations by one of this kind with the same meaning, before folding."""
        return

    def prepare(self, op: Any, preparation: Preparation) -> None:
        """Add the steps that compute an operation, quantizers included.

        Raises
        ------
        QuantizeError
            If it has no quantized form, naming its place.
        """
        raise QuantizeError(f"{op.place or op.name}: {type(op).__name__} has no quantized form")

    def convert(self, module: Any, step: Step, conversion: Conversion) -> None:
        """Add the nodes that a step becomes."""
        raise QuantizeError(f"{step.name}: {type(module).__name__} has no integer form")

    def restore(self, node: Any, restoration: Restoration) -> None:
        """Add the steps that a node came from."""
        raise QuantizeError(f"{node.name}: {node.op} cannot be restored")

    # What a restoration asks while it looks for the scales of values.

    def copied_from(self, node: Any, restoration: Restoration) -> str | None:
        """The value whose codes the node's result has, or ``None``: pools and padding keep them."""
        return None

    def step_of(self, node: Any, restoration: Restoration) -> float:
        """What a step of the codes stands for that a node gives: by default what it does in its first input."""
        return restoration.scale(node.inputs[0])

    def unit_of_sums(self, node: Any, restoration: Restoration) -> Array | None:
        """(K,): what a unit of the sums stands for that a node reads, or ``None`` where it does not say."""
        return None

    def own_unit(self, node: Any, restoration: Restoration) -> Array | None:
        """(K,): what a unit of the sums stands for that the node makes, where that follows from what it reads."""
        return None

    def main_input(self, node: Any, restoration: Restoration) -> str | None:
        """The input whose sums have the unit of the node's result, or ``None``."""
        return None

    def scale_behind(self, node: Any, rounding: Quantize, restoration: Restoration) -> float | None:
        """What a step of the codes stands for that ``rounding`` makes of the node's sums, where the node decides."""
        return None

    def scale_of_taken(self, node: Any, rescaling: Quantize, restoration: Restoration) -> float | None:
        """What a step of the codes stands for that the node reads through ``rescaling``, where the node decides."""
        return None
