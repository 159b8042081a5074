"""The convolution kernels: their names, what each can run, and which is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from nybble.backends.cuda.layout import Form, Stored


class Tile(NamedTuple):
    """A tile: rows and columns of sums that a block computes, and bytes of depth that a stage holds."""

    rows: int
    columns: int
    depth: int


#: Tiles of each pair of types, as ``native/gpu/kernels/kernels.h`` lists them; the first runs every layer.
TILES = {
    "u4s4": (Tile(64, 64, 32), Tile(128, 64, 32), Tile(128, 128, 64)),
    "s4s4": (Tile(64, 64, 32),),
    "u8s8": (Tile(64, 64, 32),),
    "s8s8": (Tile(64, 64, 32),),
}
#: Threads per block of the kernels other than convolutions.
THREADS = 128
#: Shared memory of the kernel that tests single instructions.
_PROBE_BYTES = THREADS * 16
#: Kernels of first convolutions, their threads and shared memory.
STEMS = ("stem_u8s8", "stem_s8s8")
_STEM_THREADS, STEM_BYTES = 256, 32 << 10
#: Types whose kernels also exist with the quick epilogue and with a fused projection.
QUICK = ("u4s4",)
#: Epilogues of a kernel: any; codes of 0 to 15; codes of 0 to 15 after a projection that the kernel computes first.
ANY, CODES, JOIN = "any", "codes", "join"


@dataclass(frozen=True)
class ConvKernel:
    """A convolution kernel.

    Attributes
    ----------
    types : str
        ``u4s4``, ``s4s4``, ``u8s8`` or ``s8s8``: activations and weights as they are stored.
    tile : Tile
    one_tap : bool
        Whether windows are one pixel that never lies outside the image.
    rule : str
        Its epilogue: :data:`ANY`, :data:`CODES` or :data:`JOIN`.
    """

    types: str
    tile: Tile
    one_tap: bool
    rule: str

    @property
    def name(self) -> str:
        """The kernel's name, as ``native/gpu/kernels/module.h`` makes it."""
        tile = f"{self.types}_m{self.tile.rows}n{self.tile.columns}k{self.tile.depth}"
        if self.rule == JOIN:
            return f"join_{tile}"
        return f"conv_{tile}_{'one' if self.one_tap else 'any'}_{self.rule}"

    @property
    def threads(self) -> int:
        """Threads of a block: two warps down, and one for every 32 columns."""
        return 2 * 32 * (self.tile.columns // 32)

    def shared_bytes(self, generation: int) -> int:
        """Bytes of shared memory of a block: three stages from 8.0 on, two before."""
        return (self.tile.rows + self.tile.columns) * self.tile.depth * (3 if generation >= 80 else 2)

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """Blocks that cover ``rows`` by ``columns`` sums."""
        return -(-rows // self.tile.rows), -(-columns // self.tile.columns)


class Block(NamedTuple):
    """Threads and shared memory of a block."""

    threads: int
    shared_bytes: int


@cache
def block_of(name: str, generation: int) -> Block:
    """The block of a kernel, by its name."""
    for kernel in all_kernels():
        if kernel.name == name:
            return Block(kernel.threads, kernel.shared_bytes(generation))
    if name in STEMS:
        return Block(_STEM_THREADS, STEM_BYTES)
    return Block(THREADS, _PROBE_BYTES if name == "layer_probe" else 0)


def types_of(stored: Stored) -> str:
    """Types of a convolution that reads a value in its stored form."""
    bits = 4 if stored.form is Form.NIBBLES else 8
    return f"{'s' if stored.value.dtype.is_signed else 'u'}{bits}s{bits}"


def candidates(stored: Stored, one_tap: bool, codes: bool) -> list[ConvKernel]:
    """Every kernel that can run a convolution of a value, the default for any size first."""
    types = types_of(stored)
    rules = (CODES, ANY) if codes and types in QUICK else (ANY,)
    return [
        ConvKernel(types, tile, one_tap, rule)
        for rule in rules
        for tile in TILES[types]
        if stored.pixel_bytes % tile.depth == 0
    ]


def join_candidates(stored: Stored, other: Stored) -> list[ConvKernel]:
    """Every kernel that can run a convolution of a value and a projection of another one."""
    types = types_of(stored)
    return [
        ConvKernel(types, tile, one_tap=True, rule=JOIN)
        for tile in TILES[types]
        if stored.pixel_bytes % tile.depth == 0 and other.pixel_bytes % tile.depth == 0
    ]


def all_kernels() -> list[ConvKernel]:
    """Every kernel that :func:`candidates` and :func:`join_candidates` can give."""
    found = [
        ConvKernel(types, tile, one_tap, rule)
        for types, tiles in TILES.items()
        for tile in tiles
        for rule in ((ANY, CODES) if types in QUICK else (ANY,))
        for one_tap in (True, False)
    ]
    return found + [ConvKernel(types, tile, one_tap=True, rule=JOIN) for types in QUICK for tile in TILES[types]]


def choose(found: list[ConvKernel], rows: int, columns: int) -> ConvKernel:
    """The default candidate: the one with the largest tile that the result fills, which reads operands least often."""
    fitting = [
        kernel
        for kernel in found
        if kernel.rule == found[0].rule and kernel.tile.rows <= rows and kernel.tile.columns <= columns
    ]
    return max(fitting, key=lambda kernel: kernel.tile.rows * kernel.tile.columns, default=found[0])
