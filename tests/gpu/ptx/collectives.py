"""Collective instructions: products and loads of matrices, by the fragments of the PTX ISA. The first axis is warps."""

from __future__ import annotations

import numpy as np

from nybble.graph.types import Array

_HALVES = np.arange(1 << 16, dtype=np.uint16)


def _nibbles(is_signed: bool) -> Array:
    """float32 (65536, 4): the nibbles of each half of a word, the lowest first."""
    nibbles = (_HALVES[:, None] >> np.arange(0, 16, 4, dtype=np.uint16)) & 15
    return (((nibbles.astype(np.int8) ^ 8) - 8) if is_signed else nibbles).astype(np.float32)


_NIBBLES = {is_signed: _nibbles(is_signed) for is_signed in (False, True)}


def elements(words: Array, kind: str) -> Array:
    """float32 (..., elements) of (..., words); ``kind`` is ``u4``, ``s4``, ``u8`` or ``s8``."""
    if kind[1] == "4":
        found: Array = _NIBBLES[kind[0] == "s"][words.view(np.uint16)]
        return found.reshape(*words.shape[:-1], -1)
    return words.view(np.int8 if kind[0] == "s" else np.uint8).astype(np.float32)


def multiply(a: list[Array], b: list[Array], c: list[Array], kinds: tuple[str, str]) -> list[Array]:
    """Sums of ``mma.m16n8kK`` (four registers of `a`, two of `b`) or ``m8n8kK`` (one of each), uint32 (lanes).

    Lane 4g + t has row g of `a` and column g of `b`, elements from t on; further registers are eight rows down, then
    half the depth further. Of the sums it has row g, columns 2t and 2t + 1. All products are exact in float32.
    """
    halves, downs = len(b), len(a) // len(b)
    warps = len(a[0]) // 32
    left = np.empty((warps, downs, 8, halves, 4), np.uint32)
    right = np.empty((warps, 8, halves, 4), np.uint32)
    for half in range(halves):
        for down in range(downs):
            left[:, down, :, half] = a[half * downs + down].reshape(warps, 8, 4)
        right[:, :, half] = b[half].reshape(warps, 8, 4)
    rows = elements(left.reshape(warps, downs * 8, -1), kinds[0])
    columns = elements(right.reshape(warps, 8, -1), kinds[1])
    products = np.matmul(rows, columns.transpose(0, 2, 1)).astype(np.int32).view(np.uint32)
    sums = products.reshape(warps, downs, 8, 4, 2)
    return [c[i] + sums[:, i // 2, :, :, i % 2].reshape(-1) for i in range(len(c))]


def load_matrices(rows: Array, offsets: Array) -> list[Array]:
    """``ldmatrix.x4``: uint32 (lanes) of each of four registers.

    Lane i brings the offset of row i % 8 of matrix i / 8; of each row, lanes 4r to 4r + 3 take four bytes each.

    Parameters
    ----------
    rows : uint32 (rows, 4)
        Shared memory.
    offsets : int64 (lanes,)
        In bytes.
    """
    found = rows.take(offsets // 16, axis=0).reshape(-1, 4, 8, 4)
    return [found[:, matrix].reshape(-1) for matrix in range(4)]
