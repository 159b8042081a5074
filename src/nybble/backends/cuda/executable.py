"""A network on a GPU, or on the emulated one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock

import numpy as np

from nybble.backends.base import Backend, Executable, NotANumberError, Options
from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.constants import Constants
from nybble.backends.cuda.device import Borrowed, Captured, Device, Launch
from nybble.backends.cuda.entrance import entrance, quantizing, words_found
from nybble.backends.cuda.kinds import kind_of, launches_of
from nybble.backends.cuda.layout import Form
from nybble.backends.cuda.plan import make_plan
from nybble.backends.cuda.tuned import is_enabled, load_kernels, warn_ignored
from nybble.backends.errors import EngineError
from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.lower import Step, expand

#: Opens the device that an instruction set names; ``None`` opens the default.
Opener = Callable[[str | None], Device]


class CudaBackend(Backend):
    """Makes programs for one kind of device.

    Parameters
    ----------
    name : str
        The argument ``device`` of :func:`nybble.load`.
    opener : callable
    batch_images : int
        The largest number of images in a batch.
    """

    name = "cuda"
    takes_several_outputs = True

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
        device = self._opener(options.isa)
        if options.choices is None and options.tuned and is_enabled():
            stored = load_kernels(graph, device)
            if stored is not None:
                try:
                    return CudaExecutable(graph, device, stored, self._batch_images, tuned=True)
                except EngineError as error:
                    warn_ignored(error)
        return CudaExecutable(graph, device, choices, self._batch_images)

    def open_device(self) -> tuple[Device, int]:
        """A device to measure on, and the largest batch."""
        return self._opener(None), self._batch_images


class _Batch:
    """Everything that depends on the number of images: parameters and, after the second run, a captured graph."""

    def __init__(self, steps: list[tuple[str, list[Launch]]]) -> None:
        self.steps = steps
        self.has_run = False
        self.captured: Captured | None = None

    @property
    def launches(self) -> list[Launch]:
        """The launches of all steps."""
        return [launch for _, launches in self.steps for launch in launches]


#: Input buffers on the device: one is written while a kernel reads the other.
_SOURCES = 2


class CudaExecutable(Executable):
    """Packed weights and one arena on a device. One thread at a time uses it."""

    def __init__(
        self, graph: Graph, device: Device, kernels: Mapping[str, str], batch_images: int, *, tuned: bool = False
    ) -> None:
        self.graph = graph
        self.tuned = tuned
        self.threads = 1
        self.isa = device.name
        self.plan_of_values = make_plan(expand(graph), kernels)
        for step in self.plan_of_values.steps:
            kind_of(step)
        self._device: Device | None = device
        self._turn = RLock()
        self._most = batch_images
        self._constants = Constants(device)
        self._batches: dict[int, _Batch] = {}
        self._arena = self._capacity = 0
        self._sources: list[int] = []
        self._numbers: list[int] = []
        self._found = 0
        self._batch(1)

    @property
    def step_names(self) -> Sequence[str]:
        """The stored values, as values of the graph."""
        return [run.output for run in self.plan_of_values.runs if run.output in self.graph.values]

    @property
    def steps(self) -> Sequence[Step]:
        """The steps of the plan. A pool that runs with the first convolution is part of that step."""
        return [run.whole for run in self.plan_of_values.runs]

    def kernel_name(self, step: str) -> str | None:
        """The last kernel of a step for one image. Most steps have one kernel."""
        plan = self.plan_of_values
        if plan.stem is not None and step == plan.runs[0].output:
            return plan.stem.kernel
        with self._using():
            return next((launches[-1].kernel for name, launches in self._batch(1).steps if name == step), None)

    @property
    def value_bytes(self) -> int:
        """The size of the arena of one image."""
        return self.plan_of_values.arena_bytes

    def run(self, x: Array) -> Array:
        """Run images in batches, each as one captured graph. The next batch is copied while one runs."""
        return self._first(self.run_several(x, None))

    def run_photos(self, photos: Array, preprocessing: Preprocessing) -> Array:
        """As :meth:`run`; the device converts photos to codes."""
        return self._first(self.run_several(photos, preprocessing))

    def run_normalised(self, x: Array, preprocessing: Preprocessing) -> Array:
        """As :meth:`run`; the device converts numbers to codes."""
        return self._first(self.run_several(x, preprocessing))

    def _first(self, results: dict[str, Array]) -> Array:
        return results[self.graph.outputs[0]]

    def run_on_device(self, photos: object, preprocessing: Preprocessing) -> object:
        """Photos are read in place. The output is a copy that the caller owns."""
        with self._using() as device:
            borrowed = device.borrow(photos)
            images = self._images_on_device(borrowed)
            is_float = borrowed.dtype == np.float32
            output = self.plan_of_values.output
            kept = device.allocate(max(1, images) * output.nbytes)
            try:
                for first in range(0, images, self._most):
                    count = min(self._most, images - first)
                    batch = self._batch(count)
                    source = borrowed.address + first * self._source_bytes * borrowed.dtype.itemsize
                    if is_float:
                        self._quantize(source, self._sources[0], count, preprocessing)
                        self._check_numbers(count)
                        source = self._sources[0]
                    self._enter(source, count, None if is_float else preprocessing)
                    self._replay(batch)
                    to = kept + first * output.nbytes
                    device.copy(to, self._address(output.value.name, count), count * output.nbytes)
                shape = (images, output.channels)
                return device.lend(kept, shape, (output.pitch, 1), output.value.dtype.storage)
            finally:
                device.release(kept)

    def _images_on_device(self, borrowed: Borrowed) -> int:
        entry, output = self.plan_of_values.input, self.plan_of_values.output
        is_vector = output.form is Form.WORDS and len(output.value.shape) == 1
        if not is_vector or len(self.plan_of_values.outputs) != 1:
            raise ValueError("arrays on a GPU require a network that ends in logits; pass an array in host memory")
        shapes = {"uint8": (*entry.extents, entry.channels), "float32": (entry.channels, *entry.extents)}
        if borrowed.shape[1:] != shapes.get(str(borrowed.dtype)):
            photos, numbers = (", ".join(map(str, ("N", *shape))) for shape in shapes.values())
            raise ValueError(
                f"expected uint8 ({photos}) photos or float32 ({numbers}) on the device, got {borrowed.dtype} "
                f"{borrowed.shape}"
            )
        return borrowed.shape[0]

    @property
    def _source_bytes(self) -> int:
        """Bytes of one image, as integers or as a photo."""
        return max(1, self.plan_of_values.input.channels * self.plan_of_values.input.pixels)

    def tap(self, x: Array) -> dict[str, Array]:
        """Runs step by step, since values share memory."""
        with self._using() as device:
            plan = self.plan_of_values
            found: dict[str, list[Array]] = {name: [] for name in self.step_names}
            for first in range(0, len(x), self._most):
                part = x[first : first + self._most]
                batch = self._batch(len(part))
                self._start(part, None)
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
        """The times between the events around each step. The first one includes what reads the input."""
        with self._using() as device:
            batch = self._batch(len(x))
            device.write(self._sources[0], np.ascontiguousarray(x))
            events = [device.event()]
            self._enter(self._sources[0], len(x), None)
            for _, launches in batch.steps:
                for launch in launches:
                    device.launch(launch)
                events.append(device.event())
            names = [name for name, _ in batch.steps]
            return {
                name: device.nanoseconds(first, last)
                for name, first, last in zip(names, events, events[1:], strict=False)
            }

    def close(self) -> None:
        """Free the device's memory."""
        with self._turn:
            if self._device is not None:
                self._device.activate()
                self._batches.clear()
                self._device.close()
                self._device = None

    @contextmanager
    def _using(self) -> Iterator[Device]:
        with self._turn:
            device = self._open()
            device.activate()
            yield device

    def _open(self) -> Device:
        if self._device is None:
            raise ValueError("the engine is closed")
        return self._device

    def _batch(self, images: int) -> _Batch:
        """The batch for a number of images. Enlarges the arena if it is too small."""
        device, plan = self._open(), self.plan_of_values
        if images > self._capacity:
            self._batches.clear()
            for address in (self._arena, self._found, *self._sources, *self._numbers):
                if address:
                    device.release(address)
            self._capacity, self._numbers, self._found = images, [], 0
            self._arena = device.allocate(plan.arena_bytes * images)
            # The kernel that quantizes numbers writes whole groups of 16.
            size = -(-self._source_bytes * images // 16) * 16
            self._sources = [device.allocate(size) for _ in range(_SOURCES)]
        if images not in self._batches:
            builder = Builder(plan, self._constants, self._arena, images)
            steps = [(run.output, launches_of(run, builder)) for run in plan.runs]
            self._batches[images] = _Batch(steps)
        return self._batches[images]

    def run_several(self, x: Array, preprocessing: Preprocessing | None) -> dict[str, Array]:
        """All outputs, as :meth:`run`."""
        outputs = self.plan_of_values.outputs
        results = {
            output.value.name: np.empty((len(x), *output.value.shape), output.value.dtype.storage) for output in outputs
        }
        parts = [x[first : first + self._most] for first in range(0, len(x), self._most)]
        is_float = x.dtype == np.float32
        if is_float and np.isnan(x).any():
            raise NotANumberError("the input holds NaN")
        with self._using() as device:
            if parts:
                # The largest batch comes first, so that the arena is not reallocated while a batch runs.
                self._batch(len(parts[0]))
                device.write(self._targets(is_float)[0], np.ascontiguousarray(parts[0]))
            done = 0
            for number, part in enumerate(parts):
                batch, source = self._batch(len(part)), self._sources[number % _SOURCES]
                if is_float:
                    self._quantize(self._numbers[number % _SOURCES], source, len(part), preprocessing)
                self._enter(source, len(part), None if is_float else preprocessing)
                self._replay(batch)
                if number + 1 < len(parts):
                    # This buffer is free: the result of the previous batch has been read.
                    following = np.ascontiguousarray(parts[number + 1])
                    device.write(self._targets(is_float)[(number + 1) % _SOURCES], following)
                for name, result in results.items():
                    result[done : done + len(part)] = self._value(name, len(part))
                done += len(part)
        return results

    def _targets(self, is_float: bool) -> list[int]:
        """The buffers that inputs are copied to. Those of float32 numbers are allocated when they are needed."""
        if is_float and not self._numbers:
            size = 4 * self._source_bytes * self._capacity
            self._numbers = [self._open().allocate(size) for _ in range(_SOURCES)]
        return self._numbers if is_float else self._sources

    def _quantize(self, source: int, target: int, images: int, preprocessing: Preprocessing | None) -> None:
        """Launch the kernel that converts normalised float32 numbers to the integers of the network's input."""
        assert preprocessing is not None  # noqa: S101
        if not self._found:
            self._found = self._open().allocate(4 * words_found(self._source_bytes * self._capacity))
        count = self._source_bytes * images
        self._open().launch(quantizing(source, target, self._found, count, preprocessing))

    def _check_numbers(self, images: int) -> None:
        """Raise :class:`NotANumberError` if the numbers of the last :meth:`_quantize` contain NaN. Waits for it."""
        found = np.empty(words_found(self._source_bytes * images), np.uint32)
        self._open().read(self._found, found)
        if found.any():
            raise NotANumberError("the input holds NaN")

    def _replay(self, batch: _Batch) -> None:
        """Run all steps.

        The first run launches kernels one by one: the driver loads a kernel at its first launch, which it may not be
        able to do during a capture. The second run captures a graph, and later runs replay it.
        """
        device = self._open()
        if not batch.has_run:
            for launch in batch.launches:
                device.launch(launch)
            batch.has_run = True
            return
        if batch.captured is None:
            batch.captured = device.capture(batch.launches)
        device.replay(batch.captured)

    def _start(self, x: Array, preprocessing: Preprocessing | None) -> None:
        """Copy integers (N, C, H, W), or photos (N, H, W, C), to the device and run the launch that reads them."""
        self._open().write(self._sources[0], np.ascontiguousarray(x))
        self._enter(self._sources[0], len(x), preprocessing)

    def _enter(self, source: int, images: int, preprocessing: Preprocessing | None) -> None:
        """Launch the kernel that reads an input on the device."""
        builder = Builder(self.plan_of_values, self._constants, self._arena, images)
        self._open().launch(entrance(builder, source, preprocessing))

    def _address(self, name: str, images: int) -> int:
        return self._arena + self.plan_of_values.offsets[name] * images

    def _value(self, name: str, images: int) -> Array:
        stored = self.plan_of_values.values[name]
        data = np.empty(stored.nbytes * images, np.uint8)
        self._open().read(self._address(name, images), data)
        return stored.decode(data, images)
