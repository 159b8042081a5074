"""Engine: a loaded network, ready to run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from nybble import _native
from nybble.engine.build import Built
from nybble.engine.choices import Choices, check
from nybble.engine.errors import EngineError
from nybble.engine.layout import stored_shape
from nybble.engine.plan import Plan, make_plan
from nybble.engine.scores import ranked, softmax
from nybble.engine.tuned import is_enabled, load_choices, warn_ignored
from nybble.graph import Graph, read_graph
from nybble.graph.types import Array
from nybble.images import PhotoSource, class_names, load_photo
from nybble.models import find

#: Images that go through each step together at most, in a batch that has so many for every thread. Weights are read
#: less often, and late layers have fewer ragged tiles; values take memory only for as many as have run together.
BATCH_IMAGES = 4
#: Photos that classify() decodes before it runs them.
DECODED_PHOTOS = 8


class Prediction(NamedTuple):
    """One class of a photo's answer: its index among the classes, its name and its softmax probability."""

    label: int
    name: str
    score: float


def load(
    path: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    isa: str | None = None,
    *,
    tuned: bool = True,
) -> Engine:
    """Load a model directory into an engine.

    Parameters
    ----------
    path : path, optional
        The folder ``model/`` or the one that holds it, or the name of a model: ``efficientnet-lite0``, or one that
        ``nybble fetch`` has downloaded. Without it, the model that the environment variable ``NYBBLE_MODEL`` names,
        else the trained network that comes with nybble.
    threads, isa, tuned
        As for :class:`Engine`.

    Raises
    ------
    ModelFormatError
        Naming file and line, if the directory cannot be read.
    ModelNotFoundError
        If there is neither such a folder nor a model of that name here; the text says how to get one.
    EngineError
        If ``threads`` or ``isa`` is not available here.
    """
    chosen = find(None if path is None else os.fsdecode(path))
    return Engine(read_graph(chosen.path), threads=threads, isa=isa, tuned=tuned)


class Engine:
    """A network with packed weights, memory and threads of its own.

    Parameters
    ----------
    graph : Graph
        A network of one input and one output.
    threads : int, optional
        Threads to run on; by default one for each processor this process may use.
    isa : str, optional
        Instruction set of the kernels: ``scalar``, ``avx2``, ``avx512`` or ``avx512vnni``. By default the
        environment variable ``NYBBLE_ISA``, else the best one this machine has. Results are the same bit for bit.
    tuned : bool
        Use the kernels and channel orders that ``nybble tune`` stored for this network, processor and number of
        threads, if any; ``NYBBLE_TUNED=0`` disables it. Results are the same bit for bit.
    choices : Choices, optional
        Kernels and channel orders to use instead of stored ones.

    Raises
    ------
    EngineError
        If ``threads`` or ``isa`` is not available here, or the graph has several inputs or outputs.
    ChoiceError
        If a given choice is not legal; stored ones that cannot be used are a ``TunedChoicesWarning``.

    Notes
    -----
    Several engines may live in one process, and several Python threads may call one engine: their runs
    take turns. The interpreter lock is released while a network runs, and no memory is allocated but
    the result. A forked child may go on using an engine, unless another thread was inside a run at the fork.
    """

    def __init__(
        self,
        graph: Graph,
        threads: int | None = None,
        isa: str | None = None,
        *,
        tuned: bool = True,
        choices: Choices | None = None,
    ) -> None:
        self.graph = graph
        self.isa = _chosen_isa(isa)
        self.threads = _chosen_threads(threads)
        self.plan: Plan
        self._built: Built | None
        if choices is not None:
            check(graph, self.isa, choices)
        elif tuned and is_enabled():
            choices = load_choices(graph, self.isa, self.threads)
            try:
                self._build(choices)
                return
            except ValueError as error:
                if choices is None:
                    raise
                # Legal as far as Python can tell, but the native part knows better.
                warn_ignored(repr(graph), error)
                choices = None
        self._build(choices)

    def _build(self, choices: Choices | None) -> None:
        self.plan = make_plan(self.graph, self.isa, choices)
        try:
            self._built = Built(self.plan, self.threads, BATCH_IMAGES)
        except RuntimeError as error:
            raise EngineError(f"threads={self.threads}: {error}") from None

    def __call__(self, x: Array) -> Array:
        """Logits of a batch of photos.

        Parameters
        ----------
        x : array
            uint8 (N, H, W, C), photos resized and cropped to the network's input; or float32
            (N, C, H, W), normalised as the network's preprocessing says.

        Returns
        -------
        array
            float32 (N, classes).

        Raises
        ------
        ValueError
            Saying what was expected: on another dtype or shape, on NaN, or where the model has no
            preprocessing.
        """
        built = self._open()
        preprocessing = self.graph.preprocessing
        photos = isinstance(x, np.ndarray) and x.dtype == np.uint8
        if not photos and not (isinstance(x, np.ndarray) and x.dtype == np.float32):
            raise self._unexpected(x)
        if preprocessing is None:
            raise EngineError("the model has no file `preprocessing`, so it takes no photos; use run_integer")
        if x.ndim != 4 or x.shape[1:] != (built.photo_shape if photos else built.input_shape):
            raise self._unexpected(x)
        result = built.buffer(self.graph.outputs[0], len(x))
        if photos:
            built.program.run_samples(np.ascontiguousarray(x), built.table(preprocessing), _bytes(result))
            return result
        high = float(preprocessing.input_type.maximum)
        low = -high if preprocessing.input_type.is_signed else 0.0
        numbers = (preprocessing.scale_numerator, preprocessing.scale_denominator, low, high)
        if not built.program.run_float(np.ascontiguousarray(x), *numbers, _bytes(result)):
            raise self._unexpected(x, " without NaN, but the input holds NaN")
        return result

    def run_integer(self, x: Array) -> Array:
        """Logits of a batch of integer inputs.

        Parameters
        ----------
        x : array
            (N, C, H, W) of the input type: int8 for ``s8``, uint8 for ``u8``; for the narrower types the
            values must fit them.

        Returns
        -------
        array
            float32 (N, classes); the integers themselves for a network that does not end in Scale.

        Raises
        ------
        ValueError
            On another dtype or shape, or a value that does not fit.
        """
        built = self._open()
        x = self._checked_integers(x)
        result = built.buffer(self.graph.outputs[0], len(x))
        built.program.run_integer(x.view(np.uint8), _bytes(result))
        return result

    def tap(self, x: Array) -> dict[str, Array]:
        """The output of every fused step, from the same kernels that run without taps.

        Parameters
        ----------
        x : array
            As for :meth:`run_integer`.

        Returns
        -------
        dict
            By the name of the graph's value, in the order of the steps: (N, ...) in the graph's shape and
            channel order, of ``DType.storage``.
        """
        built = self._open()
        x = self._checked_integers(x)
        names = [step.output for step in self.plan.steps]
        results = {name: built.buffer(name, len(x)) for name in names}
        logits = built.buffer(self.graph.outputs[0], len(x))
        ids = [built.ids[name] for name in names]
        for first in range(0, len(x), BATCH_IMAGES):
            part = slice(first, first + BATCH_IMAGES)
            buffers = [_bytes(results[name][part]) for name in names]
            built.program.run_tapped(x[part].view(np.uint8), _bytes(logits[part]), ids, buffers)
        return {name: built.restore(name, values) for name, values in results.items()}

    def step_times(self, x: Array) -> dict[str, int]:
        """Run one image and time every native step.

        Parameters
        ----------
        x : array
            (1, C, H, W), as for :meth:`run_integer`.

        Returns
        -------
        dict
            Nanoseconds from the end of one step to the end of the next, all threads waiting at each end, by the
            name of the value that the step writes; then, taken out of them, of the lists that it builds
            (``plan.lists_of``), as if all threads had shared their work evenly.

        Raises
        ------
        ValueError
            As :meth:`run_integer`, and on more or fewer images than one: threads would run them apart, untimed.
        """
        built = self._open()
        if len(self._checked_integers(x)) != 1:
            raise ValueError(f"expected one image, got {len(x)}")
        built.program.take_step_times()
        built.program.set_timing(True)
        try:
            self.run_integer(x)
        finally:
            built.program.set_timing(False)
        return dict(zip(built.step_names, built.program.take_step_times(), strict=True))

    def classify(self, photos: Sequence[PhotoSource], top: int = 5, *, exif: bool = True) -> list[list[Prediction]]:
        """The likeliest classes of each photo, best first.

        Parameters
        ----------
        photos : sequence
            Paths, Pillow images or uint8 (H, W, 3) arrays of any size.
        top : int
            Classes to return for each.
        exif : bool
            Whether photos are turned upright as their EXIF orientation says.

        Raises
        ------
        ImageError
            Naming the file that is no image.
        ValueError
            If the model has no preprocessing, or ``top`` is not positive.
        """
        if top < 1:
            raise ValueError(f"top must be positive, got {top}")
        if isinstance(photos, str | os.PathLike | np.ndarray):
            raise ValueError("expected a list of photos, got one path or array; put it in a list")
        preprocessing = self.graph.preprocessing
        if preprocessing is None:
            raise EngineError("the model has no file `preprocessing`, so it takes no photos; use run_integer")
        names = class_names(self.graph)
        answers: list[list[Prediction]] = []
        for first in range(0, len(photos), DECODED_PHOTOS):
            some = photos[first : first + DECODED_PHOTOS]
            batch = np.stack([load_photo(photo, preprocessing, exif=exif) for photo in some])
            logits = self(batch).reshape(len(batch), -1)
            probabilities = softmax(logits)
            for scores, best in zip(probabilities, ranked(probabilities, top), strict=True):
                answers.append([Prediction(int(i), names[i], float(scores[i])) for i in best])
        return answers

    def close(self) -> None:
        """Give threads and memory back now; the engine cannot run afterwards."""
        self._built = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<nybble.Engine: {len(self.plan.steps)} steps, {self.isa}, {self.threads} threads>"

    def _open(self) -> Built:
        if self._built is None:
            raise ValueError("the engine is closed")
        return self._built

    def _unexpected(self, x: object, why: str = "") -> ValueError:
        channels, height, width = stored_shape(self.graph, self.graph.inputs[0].name)
        expected = f"uint8 (N, {height}, {width}, {channels}) photos or float32 (N, {channels}, {height}, {width})"
        return ValueError(f"expected {expected}{why or f', got {_described(x)}'}")

    def _checked_integers(self, x: Array) -> Array:
        entry = self.graph.inputs[0]
        shape = ", ".join(map(str, ("N", *entry.shape)))
        expected = f"{entry.dtype.storage} ({shape}) with values {entry.dtype.minimum}..{entry.dtype.maximum}"
        if not isinstance(x, np.ndarray) or x.dtype != entry.dtype.storage or x.shape[1:] != entry.shape:
            raise ValueError(f"expected {expected}, got {_described(x)}")
        if x.size and (int(x.min()) < entry.dtype.minimum or int(x.max()) > entry.dtype.maximum):
            raise ValueError(f"expected {expected}, got values {x.min()}..{x.max()}")
        return np.ascontiguousarray(x)


def available_isas() -> list[str]:
    """Instruction sets that this build has kernels for and this machine can run, slowest first."""
    return list(_native.available_isas())


def _chosen_isa(isa: str | None) -> str:
    name = isa if isa is not None else os.environ.get("NYBBLE_ISA", "")
    if not name:
        return available_isas()[-1]
    try:
        _native.check_isa(name)
    except ValueError as error:
        origin = "isa" if isa is not None else "the environment variable NYBBLE_ISA"
        raise EngineError(f"{origin}: {error}") from None
    return name


def _chosen_threads(threads: int | None) -> int:
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise EngineError(f"threads must be an integer in 1..1024, got {threads!r}")
    return threads


def _described(x: object) -> str:
    return f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)
