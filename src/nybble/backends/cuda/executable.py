"""A network on a GPU, or on the emulated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nybble.backends.base import Backend, Executable, Options
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.constants import Constants
from nybble.backends.cuda.device import Captured, Device, Launch
from nybble.backends.cuda.kinds import kind_of
from nybble.backends.cuda.plan import make_plan
from nybble.backends.cuda.structures import InputParams
from nybble.backends.errors import EngineError
from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.lower import expand

#: Makes the device that an instruction set names; ``None``: the default.
Opener = Callable[[str | None], Device]


class CudaBackend(Backend):
    """Makes programs for one kind of device.

    Parameters
    ----------
    name : str
        What ``device`` of :func:`nybble.load` says.
    opener : callable
    batch_images : int
        Images that run together at most.
    """

    name = "cuda"

    def __init__(self, name: str, opener: Opener, batch_images: int) -> None:
        self.name = name  # type: ignore[misc]
        self._opener = opener
        self._batch_images = batch_images

    def compile(self, graph: Graph, options: Options) -> Executable:
        """Plan, pack and copy to the device."""
        if options.threads not in (None, 1):
            raise EngineError(f"threads={options.threads}: a GPU is driven by one thread")
        choices = {} if options.choices is None else options.choices
        if not isinstance(choices, Mapping):
            raise EngineError(f"choices must map results to names of kernels, got {type(choices).__name__}")
        return CudaExecutable(graph, self._opener(options.isa), choices, self._batch_images)


class _Batch:
    """Everything that depends on the number of images: parameters and, once it ran, what was captured."""

    def __init__(self, steps: list[tuple[str, list[Launch]]]) -> None:
        self.steps = steps
        self.captured: Captured | None = None

    @property
    def launches(self) -> list[Launch]:
        """Of all steps."""
        return [launch for _, launches in self.steps for launch in launches]


class CudaExecutable(Executable):
    """Packed weights and one arena on a device."""

    def __init__(self, graph: Graph, device: Device, kernels: Mapping[str, str], batch_images: int) -> None:
        self.graph = graph
        self.threads = 1
        self.isa = device.name
        self.plan_of_values = make_plan(expand(graph), kernels)
        for step in self.plan_of_values.steps:
            kind_of(step)
        self._device: Device | None = device
        self._most = batch_images
        self._constants = Constants(device)
        self._batches: dict[int, _Batch] = {}
        self._arena = self._source = self._capacity = 0
        self._batch(1)

    @property
    def step_names(self) -> Sequence[str]:
        """The outputs of the fused steps that the graph has."""
        return [step.output for step in self.plan_of_values.steps if step.output in self.graph.values]

    @property
    def value_bytes(self) -> int:
        """The arena of one image."""
        return self.plan_of_values.arena_bytes

    def run(self, x: Array) -> Array:
        """Some images at a time, each batch one captured piece of work."""
        return self._run(x, None)

    def run_photos(self, photos: Array, preprocessing: Preprocessing) -> Array:
        """Samples become codes on the device."""
        return self._run(photos, preprocessing)

    def tap(self, x: Array) -> dict[str, Array]:
        """Step by step, since values share memory."""
        device, plan = self._open(), self.plan_of_values
        found: dict[str, list[Array]] = {name: [] for name in self.step_names}
        for first in range(0, len(x), self._most):
            part = x[first : first + self._most]
            batch = self._batch(len(part))
            self._start(batch, part, None)
            for name, launches in batch.steps:
                for launch in launches:
                    device.launch(launch)
                if name in found:
                    found[name].append(self._value(name, len(part)))
        values = {name: plan.values[name].value for name in found}
        return {
            name: np.concatenate(parts) if parts else np.empty((0, *values[name].shape), values[name].dtype.storage)
            for name, parts in found.items()
        }

    def step_times(self, x: Array) -> dict[str, int]:
        """Between the events around each step."""
        device = self._open()
        batch = self._batch(len(x))
        self._start(batch, x, None)
        events = [device.event()]
        for _, launches in batch.steps:
            for launch in launches:
                device.launch(launch)
            events.append(device.event())
        names = [name for name, _ in batch.steps]
        return {
            name: device.nanoseconds(first, last) for name, first, last in zip(names, events, events[1:], strict=False)
        }

    def close(self) -> None:
        """Give the device's memory back."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _open(self) -> Device:
        if self._device is None:
            raise ValueError("the engine is closed")
        return self._device

    def _batch(self, images: int) -> _Batch:
        """What runs so many images; the arena grows where it is too small."""
        device, plan = self._open(), self.plan_of_values
        if images > self._capacity:
            for address in (self._arena, self._source):
                if address:
                    device.release(address)
            self._batches.clear()
            self._capacity = images
            self._arena = device.allocate(plan.arena_bytes * images)
            entry = plan.input
            self._source = device.allocate(max(1, entry.channels * entry.pixels) * images)
        if images not in self._batches:
            builder = Builder(plan, self._constants, self._arena, images)
            steps = [(step.output, kind_of(step).launches(step, builder)) for step in plan.steps]
            self._batches[images] = _Batch(steps)
        return self._batches[images]

    def _run(self, x: Array, preprocessing: Preprocessing | None) -> Array:
        device, output = self._open(), self.plan_of_values.output
        result = np.empty((len(x), *output.value.shape), output.value.dtype.storage)
        for first in range(0, len(x), self._most):
            part = x[first : first + self._most]
            batch = self._batch(len(part))
            self._start(batch, part, preprocessing)
            if batch.captured is None:
                batch.captured = device.capture(batch.launches)
            device.replay(batch.captured)
            result[first : first + len(part)] = self._value(output.value.name, len(part))
        return result

    def _start(self, batch: _Batch, x: Array, preprocessing: Preprocessing | None) -> None:
        """Copy integers (N, C, H, W), or photos (N, H, W, C), and bring them into the stored form."""
        device, entry = self._open(), self.plan_of_values.input
        device.write(self._source, np.ascontiguousarray(x))
        builder = Builder(self.plan_of_values, self._constants, self._arena, len(x))
        is_photo = preprocessing is not None
        params = InputParams(
            out=builder.tensor(entry.value),
            source=self._source,
            table=self._constants.add(preprocessing.table()) if preprocessing is not None else 0,
            pixels=builder.pixels(entry.value),
            image_pixels=entry.pixels,
            channel_step=1 if is_photo else entry.pixels,
            pixel_step=entry.channels if is_photo else 1,
        )
        device.launch(Launch("layer_input", builder.layer_grid(entry.value), params))

    def _value(self, name: str, images: int) -> Array:
        stored = self.plan_of_values.values[name]
        data = np.empty(stored.nbytes * images, np.uint8)
        self._open().read(self._arena + self.plan_of_values.offsets[name] * images, data)
        return stored.decode(data, images)
