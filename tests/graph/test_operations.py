"""Every registered operation, by its examples: inference, bounds of results, layer files, and what must be refused.

A new operation is tested by being registered.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import assert_same_node

from nybble.graph import DType, GraphError, ModelFormatError, ValueType
from nybble.graph.folder import DATA, ROOT, ModelFolder
from nybble.graph.infer import infer
from nybble.graph.layers import check_declared_inputs, read_layer, write_layer
from nybble.graph.ops import (
    Example,
    Operation,
    operation_named,
    operation_of,
    operations,
    register,
    unregister,
)
from nybble.graph.plugins import PluginError
from nybble.graph.types import SUMS, Array
from nybble.reference import compute

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_absolute
import outside_clamp
import outside_half

IMAGES = 3


def by_kind(operation: Operation[Any]) -> str:
    return operation.kind


OUTSIDE = (outside_absolute.operation, outside_clamp.operation, outside_half.operation)
ALL = pytest.mark.parametrize("operation", [*operations().values(), *OUTSIDE], ids=by_kind)


def examples(operation: Operation[Any]) -> Iterator[Example[Any]]:
    return operation.examples(np.random.default_rng(0))


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """The operations from outside, registered as their packages would have them."""
    for operation in OUTSIDE:
        register(operation)
    yield
    for operation in OUTSIDE:
        unregister(operation)


def drawn(source: ValueType, random: np.random.Generator, style: str) -> Array:
    """A batch of a value, within its magnitude."""
    if source.dtype.is_float:
        return random.normal(0, 4, (IMAGES, *source.shape)).astype(np.float32)
    low = max(source.dtype.minimum, -source.magnitude)
    high = min(source.dtype.maximum, source.magnitude)
    shape = (IMAGES, *source.shape)
    values = random.integers(low, high, shape, endpoint=True)
    if style == "extreme":
        values = np.where(random.random(shape) < 0.5, low, high)
    elif style == "one end":
        values = np.full(shape, low if random.random() < 0.5 else high)
    return values.astype(source.dtype.storage)


@ALL
def test_it_has_examples(operation: Operation[Any]) -> None:
    found = list(examples(operation))
    assert found
    assert all(operation_of(example.node) is operation for example in found)
    assert all(len(example.inputs) == len(example.node.inputs) for example in found)


@ALL
@pytest.mark.parametrize("style", ["random", "extreme", "one end"])
def test_results_are_what_inference_says(operation: Operation[Any], style: str) -> None:
    random = np.random.default_rng(1)
    for example in examples(operation):
        result = infer_or_skip(example)
        if result is None:
            continue
        values = [drawn(source, random, style) for source in example.inputs]
        found = compute(example.node, example.inputs, values)
        assert found.dtype == result.dtype.storage
        assert found.shape == (IMAGES, *result.shape)
        if not result.dtype.is_float:
            assert np.abs(found.astype(np.int64)).max() <= result.magnitude
            assert found.min() >= result.dtype.minimum
            assert found.max() <= result.dtype.maximum


def infer_or_skip(example: Example[Any]) -> ValueType | None:
    """The result's type; ``None`` where the drawn constants could pass 32 bits."""
    try:
        return infer(example.node, example.inputs)
    except GraphError as error:
        assert "beyond the 32-bit limit" in error.message
        return None


@ALL
def test_most_examples_are_valid(operation: Operation[Any]) -> None:
    valid = [infer_or_skip(example) is not None for example in examples(operation)]
    assert sum(valid) > len(valid) / 2


@ALL
def test_images_of_a_batch_do_not_meet(operation: Operation[Any]) -> None:
    random = np.random.default_rng(2)
    for example in examples(operation):
        if infer_or_skip(example) is None:
            continue
        values = [drawn(source, random, "random") for source in example.inputs]
        together = compute(example.node, example.inputs, values)
        for image in range(IMAGES):
            alone = compute(example.node, example.inputs, [value[image : image + 1] for value in values])
            np.testing.assert_array_equal(alone, together[image : image + 1])


@ALL
def test_an_expansion_computes_the_same(operation: Operation[Any]) -> None:
    """What backends run in place of an operation that they do not know."""
    random = np.random.default_rng(4)
    for example in examples(operation):
        result = infer_or_skip(example)
        parts = operation.expanded(example.node, example.inputs) if result is not None else None
        if result is None or parts is None:
            continue
        types = dict(zip(example.node.inputs, example.inputs, strict=True))
        values = {name: drawn(source, random, "extreme") for name, source in types.items()}
        expected = compute(example.node, example.inputs, list(values.values()))
        for part in parts:
            assert part.name.startswith(example.node.name)
            read = [types[name] for name in part.inputs]
            values[part.name] = compute(part, read, [values[name] for name in part.inputs])
            types[part.name] = infer(part, read)
        last = types[example.node.name]
        assert (parts[-1].name, last.dtype, last.shape) == (example.node.name, result.dtype, result.shape)
        np.testing.assert_array_equal(values[example.node.name], expected)


@ALL
def test_a_wrong_number_of_inputs_is_refused(operation: Operation[Any]) -> None:
    for example in examples(operation):
        for count in range(len(example.inputs) + 2):
            most = operation.most_inputs
            if count < operation.least_inputs or (most is not None and count > most):
                sources = (example.inputs * 2)[:count]
                with pytest.raises(GraphError, match="value") as caught:
                    infer(example.node, sources)
                assert (caught.value.node, caught.value.field) == (example.node.name, "inputs")


@ALL
def test_other_input_types_are_refused_or_inferred(operation: Operation[Any]) -> None:
    """No type of input passes that the reference then could not keep to."""
    random = np.random.default_rng(3)
    refused = 0
    for example in examples(operation):
        for position, source in enumerate(example.inputs):
            for dtype in DType:
                magnitude = 1000 if dtype in SUMS else 0 if dtype.is_float else dtype.magnitude
                changed = list(example.inputs)
                changed[position] = replace(source, dtype=dtype, magnitude=magnitude)
                try:
                    result = infer(example.node, changed)
                except GraphError as error:
                    assert error.node == example.node.name
                    refused += 1
                    continue
                assert dtype.is_float is operation.on_host
                found = compute(example.node, changed, [drawn(value, random, "extreme") for value in changed])
                assert found.dtype == result.dtype.storage
                assert found.shape == (IMAGES, *result.shape)
    assert refused


def test_what_is_not_registered_is_refused() -> None:
    from nybble.graph import Node

    class Unheard(Node):
        pass

    node = Unheard(name="n", inputs=("x",))
    assert operation_of(node) is None
    assert operation_named("Unheard") is None
    for attempt in (
        lambda: infer(node, []),
        lambda: compute(node, [], []),
        lambda: write_layer(node, "n", {}),
    ):
        with pytest.raises(GraphError, match=r"^n: no operation of this name is registered: Unheard$"):
            attempt()


def test_a_layer_type_is_registered_once() -> None:
    with pytest.raises(PluginError, match=r"^the layer type Clamp is taken by outside_clamp; rename"):
        register(outside_clamp.ClampOperation())


# ---------------------------------------------------------------------------------------------------------------------
# Layer files.


class Disk:
    """A folder in which one layer's file is written and read."""

    def __init__(self, path: Path, example: Example[Any]) -> None:
        self.node = example.node
        self.values = dict(zip(example.node.inputs, example.inputs, strict=True))
        self.path = path / ROOT
        (self.path / DATA).mkdir(parents=True, exist_ok=True)
        (self.path / ROOT).write_text("Graph\n")
        output = write_layer(self.node, self.node.name, self.values)
        for name, tensor in output.tensors.items():
            (self.path / name).write_bytes(tensor.raw())
        self.lines = output.text.encode().decode().splitlines()

    def read(self, lines: list[str]) -> Any:
        (self.path / self.node.name).write_text("".join(line + "\n" for line in lines))
        folder = ModelFolder(self.path)
        file = folder.layer(self.node.name)
        node = read_layer(folder, file, self.node.name, self.node.inputs)
        check_declared_inputs(file, node, self.values)
        return node


@pytest.fixture
def disks(tmp_path: Path, operation: Operation[Any]) -> list[Disk]:
    return [Disk(tmp_path / str(i), example) for i, example in enumerate(examples(operation))]


@ALL
def test_what_is_written_is_read(disks: list[Disk], operation: Operation[Any]) -> None:
    for disk in disks:
        assert disk.lines[0] == operation.kind
        node = disk.read(disk.lines)
        assert_same_node(disk.node, node)
        again = write_layer(node, node.name, disk.values)
        assert again.text.encode().decode().splitlines() == disk.lines


@ALL
def test_a_missing_line_is_refused_or_stands_for_a_default(disks: list[Disk], operation: Operation[Any]) -> None:
    refused = 0
    for disk in disks:
        for position in range(1, len(disk.lines)):
            lines = disk.lines[:position] + disk.lines[position + 1 :]
            try:
                node = disk.read(lines)
            except ModelFormatError as error:
                assert error.path == disk.path / disk.node.name
                refused += 1
                continue
            # Only of an optional key, whose absence is written as absence.
            key = disk.lines[position].partition("=")[0]
            again = write_layer(node, node.name, disk.values).text.encode().decode()
            assert f"\n{key}=" not in again
    assert refused


@ALL
@pytest.mark.parametrize("line", ["colour=blue", "compute_mode=s32", "no line", "!path"])
def test_an_additional_line_is_refused(disks: list[Disk], line: str, operation: Operation[Any]) -> None:
    for disk in disks:
        with pytest.raises(ModelFormatError):
            disk.read([*disk.lines, line])


@ALL
def test_other_types_in_the_file_are_refused_or_read_as_they_stand(
    disks: list[Disk], operation: Operation[Any]
) -> None:
    refused = 0
    for disk in disks[:8]:
        position = next(i for i, line in enumerate(disk.lines) if line.startswith("compute_mode="))
        for dtype in DType:
            for old in DType:
                if old.value not in disk.lines[position] or old is dtype:
                    continue
                mode = disk.lines[position].replace(old.value, dtype.value, 1)
                lines = [*disk.lines[:position], mode, *disk.lines[position + 1 :]]
                try:
                    node = disk.read(lines)
                    infer(node, list(disk.values.values()))
                except (ModelFormatError, GraphError):
                    refused += 1
                    continue
                again = write_layer(node, node.name, disk.values).text.encode().decode().splitlines()
                # s32 may stand for u31 where the node does not carry the type.
                assert again == lines or (old, dtype) == (DType.U31, DType.S32)
    assert refused
