"""Chooses the bits of each layer and activation by preset, by the rules of the description of the model directory."""

from __future__ import annotations

from collections.abc import Sequence

from nybble.graph import DType
from nybble.quantize.config import ActivationConfig, Bits, LayerConfig, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.float_network import INPUT, Concat, Conv, FloatNetwork, Op, Weighted


class Choice:
    """Fills a configuration for a folded network.

    Parameters
    ----------
    network : FloatNetwork
        As :func:`nybble.quantize.ir.fold.fold` leaves it.
    config : QuantizeConfig
        Entries in ``layers`` and ``activations`` take precedence over the preset.
    """

    def __init__(self, network: FloatNetwork, config: QuantizeConfig) -> None:
        self.config = config.model_copy(deep=True)
        self._network = network
        self._readers = network.readers()
        self._first = {op.name for op in network if isinstance(op, Weighted) and self._reads_input(op)}
        # Behind constants of the input's channels (a normalisation inside the network) comes another first layer.
        self._normalised = {
            op.name
            for op in network
            if isinstance(op, Weighted) and (before := self._before(op)) in self._first and self._is_alone(before)
        }
        self._first |= self._normalised
        self._last = self._last_layers()
        self._used: set[str] = set()
        # In networks that are not classifiers, depthwise layers carry positions and sizes, which four bits ruin.
        self._eight_depthwise = config.bits is Bits.MIXED or bool(network.results)

    def weight_bits(self, op: Weighted) -> int:
        """Bits of a layer's weights."""
        if op.name not in self.config.layers:
            self.config.layers[op.name] = LayerConfig(weight_bits=self._preset(op, self.config.bits.weights))
        self._used.add(op.name)
        return self.config.layers[op.name].weight_bits

    def activation(self, name: str, values: Sequence[str], signed: bool) -> ActivationConfig:
        """The type of an activation called ``name``: the float network's ``values`` made integer, with one step."""
        if name not in self.config.activations:
            bits = max(self._wanted(value) or 8 for value in values)
            small, large = (DType.S4, DType.S8) if signed else (DType.U4, DType.U7)
            self.config.activations[name] = ActivationConfig(dtype=small if bits == 4 else large)
        self._used.add(name)
        chosen = self.config.activations[name]
        if signed and not chosen.dtype.is_signed:
            raise QuantizeError(
                f"activations.{name}: {chosen.dtype} has no negative values, but these do; choose s4 or s8"
            )
        return chosen

    def finished(self) -> QuantizeConfig:
        """The configuration with every name filled in.

        Raises
        ------
        QuantizeError
            If it has entries for layers that the network does not have.
        """
        named = [*self.config.layers, *self.config.activations]
        if unknown := [name for name in named if name not in self._used]:
            raise QuantizeError(
                f"the configuration names {unknown[0]!r}, which the network does not have; "
                f"it has {', '.join(sorted(self._used)[:8])}, ..."
            )
        return self.config

    def _preset(self, op: Weighted, bits: int) -> int:
        # A batch norm on its own is a depthwise layer too; it is small, and of four bits nothing would be left.
        alone = self._is_alone(op.name)
        depthwise = isinstance(op, Conv) and op.groups > 1 and op.weight.shape[1] == 1
        eight = op.name in self._first or op.name in self._last or alone
        if eight or (depthwise and self._eight_depthwise):
            return 8
        return bits

    def _wanted(self, value: str) -> int | None:
        """The most bits that a layer wants that reads a value, through pools perhaps; ``None`` if only sums do."""
        if value == self._network.output:
            return 8
        wants = [self._wants(reader) for reader in self._readers[value]]
        return max((bits for bits in wants if bits is not None), default=None)

    def _wants(self, reader: Op) -> int | None:
        if isinstance(reader, Weighted):
            if reader.name in self._last or reader.name in self._normalised:
                return 8
            wanted = self.config.bits.activations
            return self._preset(reader, wanted) if self._eight_depthwise else wanted
        if reader.keeps_codes or isinstance(reader, Concat):
            return self._wanted(reader.name)
        if reader.reads_codes:
            return self.config.bits.activations
        return reader.input_bits

    def _is_alone(self, name: str) -> bool:
        """Whether a layer is nothing but constants by channel."""
        op = self._network[name]
        return isinstance(op, Conv) and op.weight[0].numel() == 1 and (op.groups > 1 or len(op.weight) == 1)

    def _before(self, op: Op) -> str:
        """The layer whose results another one reads, through pools and padding."""
        name = op.inputs[0]
        while name != INPUT and (before := self._network[name]).keeps_codes:
            name = before.inputs[0]
        return name

    def _reads_input(self, op: Op) -> bool:
        for name in op.inputs:
            if name == INPUT:
                return True
            before = self._network[name]
            if (before.keeps_codes or isinstance(before, Concat)) and self._reads_input(before):
                return True
        return False

    def _last_layers(self) -> set[str]:
        """Layers between which and the result there is no other."""
        found: set[str] = set()
        waiting = [op.name for op in self._network.results] or [self._network.output]
        while waiting:
            name = waiting.pop()
            if name == INPUT:
                continue
            op = self._network[name]
            if isinstance(op, Weighted):
                found.add(name)
            else:
                waiting.extend(op.inputs)
        return found
