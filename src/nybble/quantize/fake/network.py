"""The prepared network: a list of steps with quantizers between them, trainable, and close to the integer network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nybble.graph import Node, Preprocessing, Task
from nybble.graph.ops import operation_of
from nybble.graph.types import Array
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.operation import FakeOperation, Returned
from nybble.quantize.fake.quantizers import ActivationQuantizer, Mode, WeightQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer


class Step(NamedTuple):
    """One operation: the names of its result and of its inputs, and the module that computes it."""

    name: str
    inputs: tuple[str, ...]
    module: nn.Module


def readers_of(steps: Sequence[Step]) -> dict[str, list[Step]]:
    """By value, the steps that read it."""
    readers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(step)
    return readers


class QuantizedNetwork(nn.Module):
    """Layers, additions, pools and quantizers in execution order.

    Batch norm is folded into the weights when the network is prepared, so it is frozen during training. Its statistics
    can still be estimated anew (:meth:`reestimate_batch_norm`), before calibration.

    Parameters
    ----------
    steps : sequence of Step
        Each reads only what came before; the first value is ``input``. The last one's value is returned.
    input_quantizer : ActivationQuantizer
    input_shape : tuple of int
        (C, H, W).
    config : QuantizeConfig
        As it was used, every layer and activation listed.
    preprocessing : Preprocessing, optional
        It then determines the input's quantizer, which is not calibrated.
    class_names : sequence of str, optional
    tail : sequence of Node
        Nodes of the integer graph that compute real numbers from the results.
    outputs : sequence of str
        The outputs of a network that is not a classifier: labels of results, names of nodes of the tail.
    task : Task, optional
        What its outputs mean.
    """

    #: Name of the network's input, before and after its quantizer.
    INPUT = "input"

    def __init__(
        self,
        steps: Sequence[Step],
        input_quantizer: ActivationQuantizer,
        input_shape: tuple[int, int, int],
        config: QuantizeConfig,
        preprocessing: Preprocessing | None = None,
        class_names: Sequence[str] | None = None,
        tail: Sequence[Node] = (),
        outputs: Sequence[str] = (),
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.task = task
        self.tail = tuple(tail)
        self.outputs = tuple(outputs)
        self.config = config
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names) if class_names is not None else None
        self.input_shape = input_shape
        self.input_quantizer = input_quantizer
        self.mode: Mode = "float"
        self._order = [(step.name, step.inputs) for step in steps]
        self.modules_by_step = nn.ModuleDict({_key(step.name): step.module for step in steps})
        if len(self.modules_by_step) != len(steps):
            raise QuantizeError("two steps of the network have the same name")
        self._check_names(steps)
        readers = readers_of(steps)
        for step in steps:
            reads = readers.get(step.name, [])
            if isinstance(step.module, FakeOperation) and len(reads) == 1 and step.name != self.output:
                reader = reads[0].module
                if isinstance(reader, ActivationQuantizer) and not reader.dtype.is_signed:
                    step.module.precede(reader)
        self._last_reader = {name: step.name for step in steps for name in step.inputs}
        self.set_mode("float")

    def _check_names(self, steps: Sequence[Step]) -> None:
        """Check that names are unique: calibration, configurations and reports use them as keys."""
        quantizers: dict[str, nn.Module] = {self.INPUT: self.input_quantizer}
        layers: dict[str, nn.Module] = {}
        for step in steps:
            if step.name == self.INPUT:
                raise QuantizeError(f"a step must not be called {self.INPUT!r}: that is the network's input")
            for kind, what, seen in (
                (ActivationQuantizer, "quantizers", quantizers),
                (QuantizedLayer, "layers", layers),
            ):
                if isinstance(step.module, kind) and seen.setdefault(step.module.name, step.module) is not step.module:
                    raise QuantizeError(
                        f"{step.name}: two {what} are called {step.module.name!r}, and one would hide the other; give "
                        "each a name of its own, or both steps the same module"
                    )

    @property
    def steps(self) -> list[Step]:
        """The steps in execution order."""
        return [Step(name, inputs, self.modules_by_step[_key(name)]) for name, inputs in self._order]

    @property
    def output(self) -> str:
        """Name of the value that the network returns."""
        return self._order[-1][0]

    @property
    def result_steps(self) -> dict[str, str]:
        """By label, the step of each result of a network that is not a classifier."""
        return {step.module.label: step.name for step in self.steps if isinstance(step.module, Returned)}

    def results(self, x: Tensor) -> dict[str, Tensor]:
        """The results of normalised images by label, before the tail: (N, ...) each."""
        steps = self.result_steps
        values = self.run({self.INPUT: self.input_quantizer(x)}, keep=list(steps.values()))
        return {label: values[step] for label, step in steps.items()}

    def real_outputs(self, x: Tensor) -> dict[str, Array]:
        """All outputs of normalised images (N, C, H, W), behind the tail: float32 by name, in order.

        Of a classifier, logits (N, classes) by the name of its last step.
        """
        if not self.outputs:
            with torch.no_grad():
                logits = self(x)
            return {self.output: logits.cpu().numpy()}
        with torch.no_grad():
            found = {label: value.cpu().numpy() for label, value in self.results(x).items()}
        for node in self.tail:
            operation = operation_of(node)
            if operation is None:
                raise AssertionError(node.op)
            # They compute with real numbers, so integer types do not matter.
            found[node.name] = operation.compute(node, [], [found[name] for name in node.inputs])
        return {name: found[name] for name in self.outputs}

    def layers(self) -> dict[str, QuantizedLayer]:
        """Convolutions and linear layers by name, in execution order."""
        found = (module for module in self.modules_by_step.values())
        return {module.name: module for module in found if isinstance(module, QuantizedLayer)}

    def weight_quantizers(self) -> dict[str, WeightQuantizer]:
        """By layer name, in execution order."""
        return {name: layer.weight_quantizer for name, layer in self.layers().items()}

    def activation_quantizers(self) -> dict[str, ActivationQuantizer]:
        """The quantizers that calibration sets, by name, in execution order; the input's only without preprocessing."""
        found = {} if self.preprocessing is not None else {self.INPUT: self.input_quantizer}
        for module in self.modules_by_step.values():
            if isinstance(module, ActivationQuantizer):
                found[module.name] = module
        return found

    def set_mode(self, mode: Mode) -> None:
        """Compute in floating point, with activations clipped to their ranges, or fake-quantized.

        Parameters
        ----------
        mode : str
            ``float``, ``clip`` or ``quantize``.
        """
        if mode not in ("float", "clip", "quantize"):
            raise QuantizeError(f"unknown mode {mode!r}; choose float, clip or quantize")
        self.mode = mode
        for module in self.modules():
            if isinstance(module, ActivationQuantizer | WeightQuantizer | QuantizedLayer | FakeOperation):
                module.mode = mode

    def forward(self, x: Tensor, keep: Sequence[str] = ()) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, classes), float32, of normalised images (N, C, H, W); with the values to keep, if there are."""
        values = self.run({self.INPUT: self.input_quantizer(x)}, keep=keep)
        logits = values[self.output].flatten(1)
        return (logits, {name: values[name] for name in keep}) if keep else logits

    def run(
        self, values: Mapping[str, Tensor], *, keep: Iterable[str] = (), stop: str | None = None
    ) -> dict[str, Tensor]:
        """Run the steps whose inputs are given or computed on the way.

        Parameters
        ----------
        values : mapping of str to Tensor
            Values to start from, by name (``input`` being the quantized input). Steps that make one of them, or that
            need something else, are left out.
        keep : iterable of str
            Further values to return.
        stop : str, optional
            The last step to run; by default the network's.

        Returns
        -------
        dict of str to Tensor
            The value of ``stop`` and those of ``keep`` that were computed.
        """
        stop = stop or self.output
        wanted = {*keep, stop}
        live = dict(values)
        for name, inputs in self._order:
            if name not in values and all(entry in live for entry in inputs):
                live[name] = self.modules_by_step[_key(name)](*(live[entry] for entry in inputs))
                for entry in set(inputs):
                    if self._last_reader[entry] == name and entry not in wanted:
                        del live[entry]
            if name == stop:
                break
        return {name: value for name, value in live.items() if name in wanted}

    def freeze_batch_norm(self) -> None:
        """Does nothing, since batch norm is folded and therefore frozen. For training loops that call it."""

    @torch.no_grad()
    def reestimate_batch_norm(self, batches: Iterable[Tensor]) -> None:
        """Take the statistics of every folded batch norm anew, as an average over batches.

        This is what PyTorch's batch norm does in training with ``momentum=None``: each batch is normalised by its own
        statistics. It runs in floating point and changes weights, so call it before calibration.

        Parameters
        ----------
        batches : iterable of Tensor
            (N, C, H, W) normalised images.

        Raises
        ------
        QuantizeError
            If there is no batch.
        """
        norms = [layer.norm for layer in self.layers().values() if layer.norm is not None]
        before = self.mode
        self.set_mode("float")
        try:
            for norm in norms:
                norm.estimating = True
            for batch in batches:
                self(batch)
            for layer in self.layers().values():
                layer.settle_norm()
        finally:
            for norm in norms:
                norm.estimating = False
            self.set_mode(before)


def _key(name: str) -> str:
    """A step's name as a module's: those must not contain dots."""
    return name.replace(".", "/")
