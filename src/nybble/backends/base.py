"""The interface of a backend, which compiles a network into an executable. The rest of the package uses only this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.lower import Step


@dataclass(frozen=True)
class Options:
    """Options of a caller. A backend refuses an option that it does not have, unless it has the default value.

    Attributes
    ----------
    threads : int or None
        Threads to run on; ``None`` for as many as suit.
    isa : str or None
        Instruction set of the kernels; ``None`` for the best one.
    tuned : bool
        Whether stored choices of kernels may be used.
    choices : object
        Choices of kernels in the backend's own form, to use instead of stored ones.
    """

    threads: int | None = None
    isa: str | None = None
    tuned: bool = True
    choices: object = None


class NotANumberError(ValueError):
    """Raised for normalised photos that contain NaN, which corresponds to no integer."""


def checked_integers(graph: Graph, x: Array) -> Array:
    """``x``, contiguous, if it is a batch (N, ...) of the input of a graph.

    Raises
    ------
    ValueError
        On another dtype or shape, or a value that does not fit the input's type.
    """
    entry = graph.inputs[0]
    shape = ", ".join(map(str, ("N", *entry.shape)))
    expected = f"{entry.dtype.storage} ({shape}) with values {entry.dtype.minimum}..{entry.dtype.maximum}"
    if not isinstance(x, np.ndarray) or x.dtype != entry.dtype.storage or x.shape[1:] != entry.shape:
        raise ValueError(f"expected {expected}, got {described(x)}")
    if x.size and (int(x.min()) < entry.dtype.minimum or int(x.max()) > entry.dtype.maximum):
        raise ValueError(f"expected {expected}, got values {x.min()}..{x.max()}")
    return np.ascontiguousarray(x)


def described(x: object) -> str:
    """Dtype and shape of an array, or the type of any other object, for errors."""
    return f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__


class Executable(ABC):
    """A network of one input, ready to run. It has one output, unless its backend takes several.

    The caller checks arrays: they have the dtypes and shapes given below, are contiguous, and their integers are in
    range.

    Attributes
    ----------
    graph : Graph
    threads : int
        Threads it runs on.
    isa : str
        Instruction set of its kernels, or another name of what runs it, such as a GPU.
    tuned : bool
        Whether stored choices of kernels are in use.
    """

    graph: Graph
    threads: int
    isa: str
    tuned: bool = False

    @property
    def steps(self) -> Sequence[Step]:
        """The fused steps; empty if the backend runs nodes one by one."""
        return ()

    def kernel_name(self, step: str) -> str | None:
        """The name of a step's kernel, by the value that it writes; ``None`` if the backend does not name kernels."""
        return None

    @property
    @abstractmethod
    def step_names(self) -> Sequence[str]:
        """Names of the values that :meth:`tap` returns, in the order in which they are computed."""

    @property
    @abstractmethod
    def value_bytes(self) -> int:
        """Memory of the values of one image while it runs."""

    @abstractmethod
    def run(self, x: Array) -> Array:
        """The first output for integers (N, C, H, W) of the input's storage dtype, in the output's."""

    @abstractmethod
    def tap(self, x: Array) -> dict[str, Array]:
        """The values named by :attr:`step_names`, in the graph's shape and channel order; ``x`` as for :meth:`run`."""

    @abstractmethod
    def step_times(self, x: Array) -> dict[str, int]:
        """Nanoseconds of each step for one image, by the name of what it writes."""

    @abstractmethod
    def close(self) -> None:
        """Release threads and memory. A run in another thread ends first; later runs raise ValueError."""

    def run_photos(self, photos: Array, preprocessing: Preprocessing) -> Array:
        """The output for uint8 photos (N, H, W, C) of the input's size."""
        return self.run(self.codes(photos, preprocessing))

    def run_normalised(self, x: Array, preprocessing: Preprocessing) -> Array:
        """The output for float32 (N, C, H, W), normalised. Raises :class:`NotANumberError` on NaN."""
        return self.run(self.codes(x, preprocessing))

    @staticmethod
    def codes(x: Array, preprocessing: Preprocessing) -> Array:
        """The network's integers for photos (N, H, W, C) or normalised numbers (N, C, H, W), by definition."""
        if x.dtype == np.uint8:
            return np.stack([table[x[..., channel]] for channel, table in enumerate(preprocessing.table())], axis=1)
        if np.isnan(x).any():
            raise NotANumberError("the input holds NaN")
        with np.errstate(over="ignore"):
            return preprocessing.quantize(x)

    def run_several(self, x: Array, preprocessing: Preprocessing | None) -> dict[str, Array]:
        """All outputs by name.

        ``x`` is what :meth:`run` takes, or with ``preprocessing`` what :meth:`run_photos` or :meth:`run_normalised`
        does, by its dtype. Raises :class:`NotANumberError` on NaN.
        """
        if preprocessing is None:
            result = self.run(x)
        elif x.dtype == np.uint8:
            result = self.run_photos(x, preprocessing)
        else:
            result = self.run_normalised(x, preprocessing)
        return {self.graph.outputs[0]: result}

    def run_on_device(self, photos: object, preprocessing: Preprocessing) -> object:
        """The output for photos in the memory of a GPU, as an array on the GPU. Both support DLPack.

        Photos are uint8 (N, H, W, C) of the input's size, or float32 (N, C, H, W), normalised. Raises
        :class:`ValueError` on a backend that does not use the GPU, and :class:`NotANumberError` on NaN.
        """
        raise ValueError(f"expected an array in host memory; {self.isa} does not take arrays on a GPU")


class Backend(ABC):
    """Compiles networks.

    Attributes
    ----------
    name : str
        The value of ``device`` of :func:`nybble.load` that selects it.
    takes_several_outputs : bool
        Whether its executables run networks of several outputs: then they have a ``run_several`` of their own.
    """

    name: ClassVar[str]
    takes_several_outputs: ClassVar[bool] = False

    @abstractmethod
    def compile(self, graph: Graph, options: Options) -> Executable:
        """Compile a network of one input. It has one output, unless :attr:`takes_several_outputs`.

        It contains no node that runs on the host (:attr:`nybble.graph.ops.Operation.on_host`).

        Raises
        ------
        EngineError
            If there is a node that the backend cannot run, or an option that it does not have.
        """
