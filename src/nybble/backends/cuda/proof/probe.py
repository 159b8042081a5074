"""Single instructions on random registers, compared with the tables of the PTX ISA."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda.device import Device, Launch
from nybble.backends.cuda.structures import ProbeParams
from nybble.graph.types import Array

#: Words that each thread writes: see ``native/gpu/kernels/probe.h``.
_THREADS, _WORDS = 128, 22
#: The words of each part.
PARTS = {
    "mma u4 s4": slice(0, 4),
    "mma s4 s4": slice(4, 8),
    "mma u8 s8": slice(8, 12),
    "mma s8 s8": slice(12, 16),
    "ldmatrix": slice(16, 20),
    "cvt.pack u4": slice(20, 21),
    "cvt.pack s4": slice(21, 22),
}


def probe(device: Device, seed: int = 0) -> dict[str, str]:
    """Run every instruction in every lane. For each part: ``right``, or the first difference."""
    random = np.random.default_rng(seed)
    words = {
        "a": random.integers(0, 1 << 32, (_THREADS, 4), np.uint32),
        "b": random.integers(0, 1 << 32, (_THREADS, 2), np.uint32),
        "sums": random.integers(0, 1 << 20, (_THREADS, 4), np.uint32),
        "rows": random.integers(0, 1 << 32, (_THREADS, 4), np.uint32),
        "values": random.integers(-20, 21, (_THREADS, 8), np.int32),
    }
    addresses = {name: device.allocate(data.nbytes) for name, data in words.items()}
    for name, data in words.items():
        device.write(addresses[name], data)
    out = np.empty((_THREADS, _WORDS), np.uint32)
    addresses["out"] = device.allocate(out.nbytes)
    device.launch(Launch("layer_probe", (1, 1), ProbeParams(**addresses)))
    device.read(addresses["out"], out)
    for address in addresses.values():
        device.release(address)
    expected = _expected(words)
    return {name: _compared(out[:, part], expected[:, part]) for name, part in PARTS.items()}


def _compared(found: Array, expected: Array) -> str:
    wrong = np.argwhere(found != expected)
    if not len(wrong):
        return "right"
    lane, word = wrong[0]
    want, got = expected[lane, word], found[lane, word]
    return f"{len(wrong)} of {expected.size} words differ; thread {lane}, word {word}: expected {want:#x}, got {got:#x}"


def _expected(words: dict[str, Array]) -> Array:
    out = np.empty((_THREADS, _WORDS), np.uint32)
    for warp in range(_THREADS // 32):
        lanes = slice(32 * warp, 32 * warp + 32)
        a, b, sums = words["a"][lanes], words["b"][lanes], words["sums"][lanes]
        for part, (bits, is_signed) in enumerate(((4, False), (4, True), (8, False), (8, True))):
            out[lanes, 4 * part : 4 * part + 4] = _product(a, b, sums, bits, is_signed)
        rows = words["rows"][lanes].copy()
        rows[np.arange(32 * warp, 32 * warp + 32) % 5 == 0] = 0
        # Matrix i is the rows of lanes 8i to 8i + 7; lane 4r + c gets word c of row r of each.
        out[lanes, 16:20] = rows.reshape(4, 8, 4).transpose(1, 2, 0).reshape(32, 4)
    for word, (low, high) in ((20, (0, 15)), (21, (-8, 7))):
        nibbles = np.clip(words["values"], low, high).astype(np.int64) & 15
        out[:, word] = (nibbles << (4 * np.arange(8))).sum(axis=1)
    return out


def _product(a: Array, b: Array, sums: Array, bits: int, is_signed: bool) -> Array:
    """m16n8 over 32 bytes of depth. The four m8n8 products of 7.5 use the same registers for the same elements."""
    count = 32 // bits
    lane = np.arange(32)
    group, place = lane // 4, lane % 4
    left = np.empty((16, 8 * count), np.int64)
    right = np.empty((8, 8 * count), np.int64)
    for register in range(4):
        # Registers 1 and 3 are rows 8 to 15, registers 2 and 3 the second half of the depth.
        columns = (place * count + register // 2 * 4 * count)[:, None] + np.arange(count)
        left[(group + register % 2 * 8)[:, None], columns] = _elements(a[:, register], bits, is_signed)
    for register in range(2):
        columns = (place * count + register * 4 * count)[:, None] + np.arange(count)
        right[group[:, None], columns] = _elements(b[:, register], bits, True)
    product = left @ right.T
    out = np.empty((32, 4), np.int64)
    for register in range(4):
        out[:, register] = product[group + register // 2 * 8, place * 2 + register % 2]
    found: Array = ((out + sums) & 0xFFFFFFFF).astype(np.uint32)
    return found


def _elements(words: Array, bits: int, is_signed: bool) -> Array:
    """(lanes, elements of a word), the first in the lowest bits."""
    codes = (words[:, None].astype(np.int64) >> (bits * np.arange(32 // bits))) & ((1 << bits) - 1)
    found: Array = codes - ((codes >> (bits - 1)) << bits) if is_signed else codes
    return found
