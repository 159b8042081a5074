"""Engine: a loaded network, ready to run."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, overload

import numpy as np

from nybble.backends import Executable, Options, backend_named, backends, checked_integers, described
from nybble.backends.base import NotANumberError
from nybble.backends.errors import EngineError
from nybble.engine.answering import NO_PREPROCESSING, Answering, Prediction
from nybble.engine.sizes import Sizes
from nybble.graph import Graph, Preprocessing
from nybble.graph.resized import resized
from nybble.graph.types import Array
from nybble.lower import split_host

if TYPE_CHECKING:
    from nybble.backends.cpu.choices import Choices
    from nybble.backends.cpu.plan import Plan
    from nybble.lower import Step


__all__ = ["Engine", "Prediction", "SupportsDLPack", "available_isas"]


class SupportsDLPack(Protocol):
    """An array of any library that supports DLPack."""

    def __dlpack__(self, *, stream: int | None = None) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


class Engine(Answering):
    """A network with packed weights. Threads, memory of runs and equal weights are shared with other engines.

    Parameters
    ----------
    graph : Graph
        A network of one input. If it has several outputs, or one that is not one number per class, use :meth:`run`.
    threads : int, optional
        Threads to run on; by default one for each processor this process may use.
    isa : str, optional
        Instruction set of the kernels: ``scalar``, ``avx2``, ``avx512``, ``avxvnni`` or ``avx512vnni``. By default
        the environment variable ``NYBBLE_ISA``, else the best one this machine has. Results are the same bit for bit.
    tuned : bool
        Use the kernels and channel orders that ``nybble tune`` stored for this network, processor and number of
        threads, if any; ``NYBBLE_TUNED=0`` disables it. Results are the same bit for bit.
    choices : Choices, optional
        Kernels and channel orders to use instead of stored ones.
    device : str
        What runs the network: ``cpu``, the native engine; ``reference``, the interpreter that defines the results,
        which needs no compiled part; ``cuda``, an NVIDIA GPU, and ``cuda-emulated``, one emulated on the CPU
        (``docs/gpu.md``); or a backend of another package (entry point ``nybble.backends``).

    Raises
    ------
    EngineError
        If ``threads``, ``isa`` or ``device`` is not available here, or the graph has several inputs, or several outputs
        where the device runs networks of one.
    ChoiceError
        If a given choice is not legal; stored ones that cannot be used are a ``TunedChoicesWarning``.

    Notes
    -----
    Several engines may exist in one process, and several Python threads may call them. Runs execute concurrently as
    long as their threads together do not exceed the process's processors. Others wait in a queue. A run of several
    photos yields to runs of other engines every 50 ms. The interpreter lock is released while a network runs. Only the
    result is allocated. A forked child process may use the engine.

    An engine that :func:`nybble.load` has made can be pickled, by the path of its model and its settings: the process
    that reads the pickle loads the model. So it works in workers of PyTorch's ``DataLoader``, forked or spawned.
    """

    #: What makes this engine again in another process; ``None`` where it was not loaded.
    _reload: Callable[[], Engine] | None = None

    def __init__(
        self,
        graph: Graph,
        threads: int | None = None,
        isa: str | None = None,
        *,
        tuned: bool = True,
        choices: Choices | None = None,
        device: str = "cpu",
    ) -> None:
        backend = backend_named(device)
        if backend is None:
            raise EngineError(f"device={device!r}: there is no such backend (known: {', '.join(backends())})")
        if len(graph.inputs) != 1:
            raise EngineError(f"the engine runs networks of one input; this one has {len(graph.inputs)}")
        self.graph = graph
        core, self._tail = split_host(graph)
        if len(core.outputs) != 1 and not backend.takes_several_outputs:
            raise EngineError(f"device={device!r} runs networks of one output; this one has {len(core.outputs)}")
        options = Options(threads, isa, tuned, choices)
        self._executable = backend.compile(core, options)
        self._sizes, self._is_first_size = Sizes(partial(_of_size, graph, options, device)), True
        self._is_closed = False
        self.isa = self._executable.isa
        self.threads = self._executable.threads
        self._input_shape = _image_shape(graph)
        self._photo_shape = (*self._input_shape[1:], self._input_shape[0])

    @property
    def plan(self) -> Plan:
        """The plan of the native engine. Raises :class:`EngineError` where another backend runs the network."""
        plan = self.cpu_plan
        if plan is None:
            raise EngineError(f"the network runs on {self.isa}, which has no plan")
        return plan

    @property
    def cpu_plan(self) -> Plan | None:
        """The plan of the native engine, or ``None``."""
        return getattr(self._executable, "plan", None)

    @property
    def tuned(self) -> bool:
        """Whether kernels are those that ``nybble tune`` stored."""
        return self._executable.tuned

    @property
    def steps(self) -> Sequence[Step]:
        """The fused steps that run; empty where nodes run one by one."""
        return self._executable.steps

    def kernel_name(self, step: str) -> str | None:
        """The kernel of a step on a GPU, by the value that it writes."""
        return self._executable.kernel_name(step)

    @property
    def value_bytes(self) -> int:
        """Memory of the values of one image while it runs."""
        return self._executable.value_bytes

    @overload
    def __call__(self, x: Array) -> Array: ...

    @overload
    def __call__(self, x: SupportsDLPack) -> object: ...

    def __call__(self, x: Array | SupportsDLPack) -> Array | object:
        """Logits of a batch of photos.

        Parameters
        ----------
        x : array
            uint8 (N, H, W, C), photos resized and cropped to the network's input; or float32
            (N, C, H, W), normalised as the network's preprocessing says. With ``device="cuda"`` it may also be on that
            GPU: any array that supports DLPack.

        Returns
        -------
        array
            float32 (N, classes). If ``x`` is on a GPU, the result is an array on that GPU that supports DLPack:
            ``torch.from_dlpack(engine(photos))``.

        Raises
        ------
        ValueError
            Saying what was expected: on another dtype or shape, on NaN, or where the model has no
            preprocessing.

        Examples
        --------
        >>> import nybble, numpy as np
        >>> engine = nybble.load("efficientnet-lite0")
        >>> engine(np.zeros((2, 224, 224, 3), np.uint8)).shape
        (2, 1000)
        """
        executable = self._open()
        preprocessing = self.graph.preprocessing
        if _is_on_gpu(x):
            if preprocessing is None:
                raise EngineError(NO_PREPROCESSING)
            if self._tail.nodes:
                raise EngineError("the network ends on the host; pass an array in host memory")
            try:
                return executable.run_on_device(x, preprocessing)
            except NotANumberError:
                raise self._unexpected(x, " without NaN, but the input holds NaN") from None
        preprocessing = self._checked_photos(x)
        assert isinstance(x, np.ndarray)  # noqa: S101
        if not self._has_one_result:
            return self._only(self.run(x))
        if x.dtype == np.uint8:
            return executable.run_photos(np.ascontiguousarray(x), preprocessing)
        try:
            return executable.run_normalised(np.ascontiguousarray(x), preprocessing)
        except NotANumberError:
            raise self._unexpected(x, " without NaN, but the input holds NaN") from None

    def run(self, x: Array, *, integers: bool = False) -> dict[str, Array]:
        """All outputs of a batch of photos, by name.

        Parameters
        ----------
        x : array
            As for a call of the engine: uint8 photos (N, H, W, C), or float32 (N, C, H, W), normalised.
        integers : bool
            Whether ``x`` holds integers, as for :meth:`run_integer`.

        Returns
        -------
        dict of str to array
            In the order of ``graph.outputs``: (N, ...) in the shape and dtype of ``graph.values``.

        Raises
        ------
        ValueError
            As a call of the engine, or :meth:`run_integer`.

        Examples
        --------
        >>> import nybble, numpy as np
        >>> engine = nybble.load("efficientnet-lite0")
        >>> {name: values.shape for name, values in engine.run(np.zeros((1, 224, 224, 3), np.uint8)).items()}
        {'scale': (1, 1000)}
        """
        executable = self._open()
        if integers:
            found = executable.run_several(checked_integers(self.graph, x), None)
            return self._tail.results(found)
        preprocessing = self._checked_photos(x)
        try:
            found = executable.run_several(np.ascontiguousarray(x), preprocessing)
        except NotANumberError:
            raise self._unexpected(x, " without NaN, but the input holds NaN") from None
        return self._tail.results(found)

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
            float32 (N, classes); for a network that does not end in Scale, the integers themselves.

        Raises
        ------
        ValueError
            On another dtype or shape, or a value that does not fit.
        """
        executable = self._open()
        if not self._has_one_result:
            return self._only(self.run(x, integers=True))
        return executable.run(checked_integers(self.graph, x))

    def tap(self, x: Array) -> dict[str, Array]:
        """The output of every fused step, from the same kernels as in an ordinary run.

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
        executable = self._open()
        x = checked_integers(self.graph, x)
        found = executable.tap(x)
        return {**found, **self._tail.values(executable.run_several(x, None))} if self._tail.nodes else found

    def step_times(self, x: Array) -> dict[str, int]:
        """Run one image and time every native step.

        Parameters
        ----------
        x : array
            (1, C, H, W), as for :meth:`run_integer`.

        Returns
        -------
        dict
            Nanoseconds from the end of one step to the end of the next, by the name of the value that the step writes.
            All threads wait for each other at each end. The time of building lists (``plan.lists_of``) is subtracted
            from its step and given separately, as if all threads had shared that work evenly.

        Raises
        ------
        ValueError
            As :meth:`run_integer`, and if ``x`` is not exactly one image.
        """
        executable = self._open()
        x = checked_integers(self.graph, x)
        if len(x) != 1:
            raise ValueError(f"expected one image, got {len(x)}")
        return executable.step_times(x)

    @property
    def photo_shape(self) -> tuple[int, ...]:
        """(H, W, C) of a prepared photo."""
        return self._photo_shape

    def reshape(self, rows: int, columns: int) -> Engine:
        """The network for an input of another size, without loading it again.

        The engines of the most recently used sizes are kept (:data:`nybble.engine.sizes.KEPT`), so that using one of
        them again costs nothing. Packed weights are shared by all sizes that run the same kernels. Closing this engine
        closes them.

        Parameters
        ----------
        rows, columns : int

        Returns
        -------
        Engine
            Its ``graph`` and ``preprocessing`` have that size. This engine itself if it has that size already.

        Raises
        ------
        GraphError
            If the network cannot take that size; see :func:`nybble.graph.resized.resized`.
        """
        self._open()
        return self if (rows, columns) == self._input_shape[1:] else self._of_other_size(rows, columns)

    def _of_other_size(self, rows: int, columns: int) -> Engine:
        engine = self._sizes.get(rows, columns)
        # All engines of one network share the sizes.
        engine._sizes, engine._is_first_size = self._sizes, False
        return engine

    def close(self) -> None:
        """Release threads and memory; the engine cannot run afterwards."""
        self._is_closed = True
        self._executable.close()
        if self._is_first_size:
            self._sizes.clear()

    def __reduce__(self) -> tuple[Callable[[], Engine], tuple[()]]:
        if self._reload is None:
            raise pickle.PicklingError(
                "an engine of a graph in memory cannot be pickled; write the graph by nybble.write_graph, and load it "
                "by nybble.load"
            )
        return self._reload, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<nybble.Engine: {len(self._executable.step_names)} steps, {self.isa}, {self.threads} threads>"

    @property
    def _has_one_result(self) -> bool:
        """Whether the backend's one output is the network's."""
        return not self._tail.nodes and len(self.graph.outputs) == 1

    def _logits(self, x: Array) -> Array:
        return self(x)

    def _only(self, results: dict[str, Array]) -> Array:
        if len(results) != 1:
            raise EngineError(f"the network has the outputs {', '.join(results)}; Engine.run returns them by name")
        return next(iter(results.values()))

    def _checked_photos(self, x: object) -> Preprocessing:
        """The network's preprocessing. Raises ValueError if ``x`` is not a batch of photos, normalised or not."""
        if not isinstance(x, np.ndarray) or x.dtype not in (np.uint8, np.float32):
            raise self._unexpected(x)
        if self.graph.preprocessing is None:
            raise EngineError(NO_PREPROCESSING)
        if x.ndim != 4 or x.shape[1:] != (self._photo_shape if x.dtype == np.uint8 else self._input_shape):
            raise self._unexpected(x)
        return self.graph.preprocessing

    def _open(self) -> Executable:
        if self._is_closed:
            raise ValueError("the engine is closed")
        return self._executable

    def _unexpected(self, x: object, why: str = "") -> ValueError:
        channels, height, width = self._input_shape
        expected = f"uint8 (N, {height}, {width}, {channels}) photos or float32 (N, {channels}, {height}, {width})"
        return ValueError(f"expected {expected}{why or f', got {described(x)}'}")


def available_isas() -> list[str]:
    """Instruction sets that this build has kernels for and this machine can run, slowest first.

    Examples
    --------
    >>> import nybble
    >>> nybble.available_isas()[0]
    'scalar'
    """
    from nybble.backends.cpu import available_isas as found

    return found()


def _is_on_gpu(x: object) -> bool:
    """Whether an array of another library is in memory of a CUDA GPU, including managed memory."""
    return not isinstance(x, np.ndarray) and hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in (2, 13)


def _of_size(graph: Graph, options: Options, device: str, rows: int, columns: int) -> Engine:
    """An engine of the network for images of another size; choices of kernels are for one size."""
    return Engine(resized(graph, rows, columns), options.threads, options.isa, tuned=options.tuned, device=device)


def _image_shape(graph: Graph) -> tuple[int, int, int]:
    """(channels, rows, columns) of the input; a vector is an image of one pixel."""
    shape = graph.inputs[0].shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)
