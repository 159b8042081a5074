"""A network and a batch as launches and memory, with the expected values of every step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nybble.backends.cuda.builder import Builder
from nybble.backends.cuda.constants import Constants
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.entrance import entrance, quantizing, words_found
from nybble.backends.cuda.kinds import launches_of
from nybble.backends.cuda.layout import Form, Stored
from nybble.backends.cuda.plan import CudaPlan, Run, make_plan
from nybble.backends.cuda.recording import Pointer, Recorded, RecordingDevice
from nybble.backends.cuda.roofline import Demand, demand
from nybble.graph import DType, Graph, Preprocessing
from nybble.graph.expansion import expand
from nybble.graph.types import Array
from nybble.lower import Value
from nybble.reference import interpret


@dataclass(frozen=True)
class Check:
    """A step and its expected values.

    Attributes
    ----------
    name : str
        Name of the value.
    launches : int
        Number of launches of the program, after those of the previous step.
    kernel : str
        Kernel of the last launch.
    block, offset : int
        Address of the value.
    dtype : str
    form : int
        As :class:`~nybble.backends.cuda.layout.Form`.
    shape : tuple of int
        Shape of one image.
    digest : str
        SHA-256 of all images' elements in the type's storage, in the graph's order.
    first : str
        Name of the bundle's array with the first image's elements; empty if there is none.
    macs : int
        Multiply-accumulates of one image.
    bytes : int
        Minimum bytes of values that the step reads and writes for one image, as they are stored.
    weight_bytes : int
        Bytes of weights that it reads, once per batch.
    bits : int
        Bits of its products; 0 without any.
    """

    name: str
    launches: int
    kernel: str
    block: int
    offset: int
    dtype: str
    form: int
    shape: tuple[int, ...]
    digest: str = ""
    first: str = ""
    macs: int = 0
    bytes: int = 0
    weight_bytes: int = 0
    bits: int = 0

    @property
    def demand(self) -> Demand:
        """The least work of the step."""
        return Demand(self.macs, self.bits, self.bytes, self.weight_bytes)

    @property
    def stored(self) -> Stored:
        """The layout of the value in memory."""
        dtype = DType(self.dtype)
        return Stored(Value(self.name, dtype, self.shape, dtype.magnitude), Form(self.form))


@dataclass(frozen=True)
class Program:
    """Recorded launches and memory. ``contents`` and ``input`` name arrays of the bundle.

    Attributes
    ----------
    name : str
    images : int
    blocks : tuple of int
        Bytes of each block of memory.
    contents : dict
        Array of each block that is initialised, by the block's number as text.
    source : int
        The block that the input is copied to.
    input : str
        Its array: integers (N, C, H, W) in the type's storage, as bytes. It is repeated if it has fewer images.
    launches : tuple of Recorded
    checks : tuple of Check
    """

    name: str
    images: int
    blocks: tuple[int, ...]
    contents: Mapping[str, str]
    source: int
    input: str
    launches: tuple[Recorded, ...]
    checks: tuple[Check, ...]

    def document(self) -> dict[str, Any]:
        """The program as values for JSON."""
        launches = [{**asdict(one), "params": one.params.hex()} for one in self.launches]
        return {**asdict(self), "launches": launches}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Program:
        """The inverse of :meth:`document`."""
        launches = tuple(
            Recorded(
                one["kernel"],
                (one["grid"][0], one["grid"][1]),
                bytes.fromhex(one["params"]),
                tuple(Pointer(*pointer) for pointer in one["pointers"]),
            )
            for one in document["launches"]
        )
        checks = tuple(Check(**{**one, "shape": tuple(one["shape"])}) for one in document["checks"])
        return cls(**{**document, "blocks": tuple(document["blocks"]), "launches": launches, "checks": checks})


@dataclass
class Arrays:
    """Arrays of a bundle by name. Equal arrays are stored once."""

    found: dict[str, Array] = field(default_factory=dict)

    def add(self, array: Array) -> str:
        """Add an array and return its name."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        name = hashlib.sha256(data.tobytes()).hexdigest()[:20]
        self.found[name] = data
        return name


def digest(array: Array) -> str:
    """SHA-256 of the elements, in their order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def record(
    name: str,
    graph: Graph,
    x: Array,
    arrays: Arrays,
    kernels: Mapping[str, str] | None = None,
    expected: Mapping[str, Array] | None = None,
    keep_first: bool = True,
    again: int = 1,
    preprocessing: Preprocessing | None = None,
) -> Program:
    """The program of a graph for integer inputs (N, C, H, W), or with its preprocessing for normalised float32.

    Parameters
    ----------
    name : str
    graph : Graph
    x : array
    arrays : Arrays
        Receives the arrays of the program.
    kernels : mapping, optional
        As for :func:`~nybble.backends.cuda.plan.make_plan`.
    expected : mapping, optional
        Expected values by name, of the steps to check. The default is all values, from the reference.
    keep_first : bool
        Whether the first image's values are stored, so that a difference can be located.
    again : int
        How often ``x`` is repeated in the input.
    preprocessing : Preprocessing, optional
    """
    images = len(x) * again
    plan = make_plan(expand(graph), kernels or {})
    device = RecordingDevice()
    builder = Builder(plan, Constants(device), device.allocate(plan.arena_bytes * images), images)
    source = device.allocate(max(1, x.nbytes * again))
    if expected is None:
        expected = reference_values(plan, x if preprocessing is None else preprocessing.quantize(x))
    first: list[Launch] = []
    numbers = source
    if preprocessing is not None:
        count = x.size * again
        source, found_nan = device.allocate(16 * words_found(count)), device.allocate(4 * words_found(count))
        first.append(quantizing(numbers, source, found_nan, count, preprocessing))
    first.append(entrance(builder, source, None))
    launches = [device.recorded(launch) for launch in first]
    checks: list[Check] = []
    for run in plan.runs:
        found = [device.recorded(launch) for launch in launches_of(run, builder)]
        launches += found
        # The launches that read the input belong to the first step.
        count = len(found) + (0 if checks else len(first))
        kernel = launches[-1].kernel
        checks.append(_check(run, builder, device, count, kernel, expected.get(run.output), arrays, keep_first))
    return Program(
        name=name,
        images=images,
        blocks=tuple(device.blocks),
        contents={str(block): arrays.add(data) for block, data in device.contents.items()},
        source=device.place(numbers)[0],
        input=arrays.add(x),
        launches=tuple(launches),
        checks=tuple(checks),
    )


def reference_values(plan: CudaPlan, x: Array) -> dict[str, Array]:
    """The expected values of every step. Images run one by one, since all values of a batch take much memory."""
    names = [run.output for run in plan.runs]
    parts = [interpret(plan.graph, x[i : i + 1], keep=names) for i in range(len(x))]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _check(
    run: Run,
    builder: Builder,
    device: RecordingDevice,
    launches: int,
    kernel: str,
    expected: Array | None,
    arrays: Arrays,
    keep_first: bool,
) -> Check:
    stored = builder.stored(run.result)
    block, offset = device.place(builder.address(run.result))
    least = demand(builder.plan, run)
    return Check(
        name=run.output,
        launches=launches,
        kernel=kernel,
        block=block,
        offset=offset,
        dtype=str(stored.value.dtype),
        form=int(stored.form),
        shape=stored.value.shape,
        digest="" if expected is None else digest(expected),
        first=arrays.add(expected[:1]) if keep_first and expected is not None else "",
        **least._asdict(),
    )
