"""Tensors: packing of each type, bounds, and files that change under them."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from nybble.graph import DType, ModelFormatError, Tensor
from nybble.graph.tensor import decode, encode, raw_bytes


def test_s4_lies_low_nibble_first_in_twos_complement() -> None:
    tensor = Tensor.from_array(DType.S4, np.array([1, -1, -8, 7, 3]))
    assert tensor.raw() == bytes([0xF1, 0x78, 0x03])
    assert tensor.nbytes == 3
    assert decode(DType.S4, b"\xf1\x78\x03", 5).tolist() == [1, -1, -8, 7, 3]
    assert decode(DType.U4, b"\xf1\x78\x03", 5).tolist() == [1, 15, 8, 7, 3]


def test_types_are_little_endian() -> None:
    assert Tensor.from_array("s16", np.array([-2, 256])).raw() == b"\xfe\xff\x00\x01"
    assert Tensor.from_array("u32", np.array([2**32 - 1])).raw() == b"\xff\xff\xff\xff"
    assert Tensor.from_array("s32", np.array([-(2**31)])).raw() == b"\x00\x00\x00\x80"
    assert Tensor.from_array("f32", np.array([1.0], dtype=">f8")).raw() == b"\x00\x00\x80\x3f"


@given(data=st.data(), dtype=st.sampled_from([dtype for dtype in DType if not dtype.is_float]))
def test_any_values_come_back(data: st.DataObject, dtype: DType) -> None:
    values = data.draw(st.lists(st.integers(dtype.minimum, dtype.maximum), max_size=9))
    raw = encode(dtype, np.array(values, dtype=dtype.storage))
    assert len(raw) == raw_bytes(dtype, len(values))
    assert decode(dtype, raw, len(values)).tolist() == values
    assert Tensor.from_array(dtype, np.array(values, dtype=np.int64)).numpy().tolist() == values


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if not dtype.is_float])
def test_bounds(dtype: DType) -> None:
    assert Tensor.from_array(dtype, np.array([dtype.minimum, dtype.maximum])).numpy().tolist() == [
        dtype.minimum,
        dtype.maximum,
    ]
    for value in (dtype.minimum - 1, dtype.maximum + 1):
        with pytest.raises(ValueError, match="do not fit"):
            Tensor.from_array(dtype, np.array([value]))
    with pytest.raises(ValueError, match="needs integers"):
        Tensor.from_array(dtype, np.array([1.0]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        Tensor.from_array(DType.F32, np.array([1.0, value]))


def test_arrays_are_copied_and_locked() -> None:
    source = np.array([1, 2, 3])
    tensor = Tensor.from_array(DType.S8, source)
    source[0] = 9
    assert tensor.numpy().tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        tensor.numpy()[0] = 1


def test_file_is_read_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"\x21\x03")
    tensor = Tensor.from_file(DType.S4, (3, 1), path)
    assert tensor.numpy().tolist() == [[1], [2], [3]]
    assert not tensor.numpy().flags.writeable


def test_file_of_the_wrong_size_or_kind(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with pytest.raises(ModelFormatError, match="w: cannot be read: No such file"):
        Tensor.from_file(DType.S4, (3,), path)
    path.write_bytes(b"123")
    with pytest.raises(ModelFormatError, match="w: has 3 bytes, but s4 of shape 3 takes 2"):
        Tensor.from_file(DType.S4, (3,), path)
    with pytest.raises(ModelFormatError, match="takes 1000000000000"):
        Tensor.from_file(DType.S8, (10**6, 10**6), path)
    with pytest.raises(ModelFormatError, match="is not a regular file"):
        Tensor.from_file(DType.S8, (1,), tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFormatError, match="is not a regular file"):
        Tensor.from_file(DType.S8, (1,), tmp_path / "pipe")


def test_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"123")
    tensor = Tensor.from_file(DType.S8, (3,), path)
    path.write_bytes(b"1234")
    with pytest.raises(ModelFormatError, match="has changed since the model was loaded"):
        tensor.numpy()
    path.unlink()
    with pytest.raises(ModelFormatError, match="cannot be read"):
        tensor.numpy()
