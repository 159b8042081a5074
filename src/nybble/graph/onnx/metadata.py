"""Facts that an ONNX model cannot express, in its ``metadata_props``. They are optional for an import."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.form import operation
from nybble.graph.ops.questions import requantization, unit_of, weighted
from nybble.graph.ops.roles import Requantization
from nybble.graph.ops.units import Unit
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.task import Task
from nybble.graph.task_file import task_fields, task_of_fields
from nybble.graph.types import SUMS, DType
from nybble.graph.value_type import MAX_SHIFT

FORM, PREPROCESSING, CLASS_NAMES, TASK, NODES, OUTPUTS = (
    f"nybble.{name}" for name in ("form", "preprocessing", "class_names", "task", "nodes", "outputs")
)
#: Fields of a preprocessing other than resize and crop.
FITTING = ("channel_order", "fit", "fill", "placement")
#: Largest property that is read.
MAX_PROPERTY = 16 << 20


#: The keys of a hint that are read here.
_KNOWN = ("shift", "factors", "stride", "factor", "output", "bias")
#: Largest factors that float32 scales reproduce.
EXACT_FACTOR = 1 << 20


@dataclass(frozen=True)
class Hint:
    """A hint on a node of the exported graph: shift, types and large factors of a Quantize, bias type, pool stride.

    ``other`` is the unchecked hint of an operation of another package.
    """

    shift: int | None = None
    factors: tuple[int, ...] | None = None
    stride: tuple[int, int] | None = None
    factor: DType | None = None
    output: DType | None = None
    bias: DType | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metadata:
    """The properties of a model that nybble has written; empty for other models."""

    form: str | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None
    task: Task | None = None
    nodes: Mapping[str, Hint] = field(default_factory=dict)
    outputs: Mapping[str, DType] = field(default_factory=dict)


def properties(graph: Graph, form: str) -> dict[str, str]:
    """The properties of a model of a graph."""
    made = {FORM: form}
    known = graph.preprocessing
    if known is not None:
        made[PREPROCESSING] = json.dumps(_preprocessing_fields(known))
    if graph.class_names is not None:
        made[CLASS_NAMES] = json.dumps(graph.class_names)
    if graph.task is not None:
        made[TASK] = json.dumps(task_fields(graph.task))
    made[OUTPUTS] = json.dumps({name: graph.values[name].dtype for name in graph.outputs})
    nodes: dict[str, dict[str, Any]] = {}
    readers = graph.consumers()
    for node in graph:
        hint = dict(operation(node).onnx_hint(node))
        rule = requantization(node)
        if rule is not None and (
            int(rule.factor.numpy().max()) > EXACT_FACTOR or _is_hidden(graph, rule, readers[node.name])
        ):
            hint["factors"] = rule.factor.numpy().tolist()
        if hint:
            nodes[node.name] = hint
    made[NODES] = json.dumps(nodes)
    return made


def _preprocessing_fields(known: Preprocessing) -> dict[str, Any]:
    made = {
        name: getattr(known, name)
        for name in (
            "resize",
            "crop",
            "interpolation",
            "mean",
            "std",
            "input_type",
            "scale_numerator",
            "scale_denominator",
        )
    }
    fitting = {name: getattr(known, name) for name in FITTING if getattr(known, name) != getattr(Preprocessing, name)}
    if fitting:
        # Readers of version 1 and 2 ignore unknown fields. Without `crop` they refuse the property.
        made["size"] = made.pop("crop")
    return made | fitting


def _is_hidden(graph: Graph, rule: Requantization, readers: Sequence[Node]) -> bool:
    """Whether no scale determines the unit of a requantized sum: it is not added to a convolution's sum."""
    if rule.output_type not in SUMS:
        return False
    if len(readers) != 1 or unit_of(readers[0]) is not Unit.JOINT:
        return True
    others = [name for name in readers[0].inputs if name != rule.name]
    return not any(weighted(other) is not None for other in graph if other.name in others)


def read_metadata(given: Mapping[str, str]) -> Metadata:
    """Read :func:`properties`.

    Raises
    ------
    OnnxImportError
        Naming a property of nybble that is not valid.
    """
    return Metadata(
        form=given.get(FORM),
        preprocessing=_read(given, PREPROCESSING, _preprocessing),
        class_names=_read(given, CLASS_NAMES, _class_names),
        task=_read(given, TASK, task_of_fields),
        nodes=_read(given, NODES, _nodes) or {},
        outputs=_read(given, OUTPUTS, lambda held: {_text(name): DType(kind) for name, kind in held.items()}) or {},
    )


def _read(given: Mapping[str, str], name: str, parse: Any) -> Any:
    if name not in given:
        return None
    if len(given[name]) > MAX_PROPERTY:
        raise OnnxImportError(f"metadata property {name} is larger than {MAX_PROPERTY} characters")
    try:
        return parse(json.loads(given[name]))
    except (GraphError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise OnnxImportError(
            f"metadata property {name} does not hold what nybble writes there ({error}); remove it to import without"
        ) from error


def _preprocessing(held: Any) -> Preprocessing:
    rows, columns = held.pop("size" if "size" in held else "crop")
    return Preprocessing(
        resize=_integer(held.pop("resize")),
        crop=(_integer(rows), _integer(columns)),
        interpolation=_text(held.pop("interpolation")),
        mean=tuple(float(value) for value in held.pop("mean")),
        std=tuple(float(value) for value in held.pop("std")),
        input_type=DType(held.pop("input_type")),
        scale_numerator=float(held.pop("scale_numerator")),
        scale_denominator=float(held.pop("scale_denominator")),
        fill=None if held.get("fill") is None else _integer(held["fill"]),
        **{name: _text(held[name]) for name in FITTING if name != "fill" and held.get(name) is not None},
    )


def _class_names(held: Any) -> tuple[str, ...]:
    if not isinstance(held, list):
        raise TypeError("no list")
    return tuple(_text(name) for name in held)


def _nodes(held: Any) -> dict[str, Hint]:
    hints = {}
    for name, hint in held.items():
        shift = hint.get("shift")
        if shift is not None and not 0 <= _integer(shift) <= MAX_SHIFT:
            raise ValueError(f"shift {shift} is not in 0..{MAX_SHIFT}")
        kinds = {key: DType(hint[key]) for key in ("factor", "output", "bias") if key in hint}
        factors = tuple(map(_integer, hint["factors"])) if "factors" in hint else None
        stride = _pair(hint["stride"]) if "stride" in hint else None
        other = {_text(key): value for key, value in hint.items() if key not in _KNOWN}
        hints[_text(name)] = Hint(shift=shift, factors=factors, stride=stride, other=other, **kinds)
    return hints


def _pair(value: Any) -> tuple[int, int]:
    rows, columns = map(_integer, value)
    return rows, columns


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
