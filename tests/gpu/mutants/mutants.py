"""Changed copies of the kernels' source, each of which the emulation has to tell from the right one."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one place.

    Attributes
    ----------
    name : str
    file : str
        In ``native/gpu/kernels``.
    old, new : str
        ``old`` is there exactly once.
    generations : tuple of int
        Where it changes what is computed or when.
    """

    name: str
    file: str
    old: str
    new: str
    generations: tuple[int, ...] = (75, 80, 90)


_ASYNC = (80, 90)
MUTANTS = (
    # Indices and constants of the tile.
    Mutant("rows of a warp", "conv.h", "kWarpsAcross * kWarpRows; }", "kWarpsAcross * 16; }"),
    Mutant("columns of a warp", "conv.h", "% kWarpsAcross * kWarpColumns; }", "% 1 * kWarpColumns; }"),
    Mutant("channel of a thread", "conv.h", "lane() % 4 * 8; }", "lane() / 8 * 8; }"),
    Mutant("row of a thread", "conv.h", "half * 8 + lane() / 4", "half * 8 + lane() % 8"),
    Mutant("half of a fragment", "conv.h", "[half * 2 + i % 2]", "[half + i % 2 * 2]"),
    Mutant("tile of a channel", "conv.h", "accumulators[m][i / 2]", "accumulators[m][i % 4]"),
    Mutant("end of the rows", "conv.h", "if (row >= p.rows) continue;", "if (row > p.rows) continue;"),
    Mutant("end of the channels", "conv.h", "if (first >= p.epilogue.out.pitch)", "if (first > p.epilogue.out.pitch)"),
    # Where operands come from.
    Mutant("stride", "conv.h", "% p.out_width * p.stride_w", "% p.out_width * p.stride_h"),
    Mutant("padding", "conv.h", "* p.stride_h - p.pad_top", "* p.stride_h - p.pad_left"),
    Mutant("dilation", "conv.h", "tap_x * p.dilation_w", "tap_x * p.dilation_h"),
    Mutant("upper edge", "conv.h", "y >= 0 && y < p.height", "y > 0 && y < p.height"),
    Mutant("right edge", "conv.h", "x < p.width;", "x <= p.width;"),
    Mutant("rows beyond the end", "conv.h", "row < p.rows ? static_cast", "row <= p.rows ? static_cast"),
    Mutant("next tap", "conv.h", "if (++tap_x == p.kernel_w)", "if (++tap_x == p.kernel_h)"),
    Mutant("next weights", "conv.h", "column += Depth;", "column += Depth / 2;"),
    # Swizzles.
    Mutant(
        "swizzle of one side",
        "conv.h",
        "rows + place(row + m * 16, part + row_chunk)",
        "rows + static_cast<u32>(((row + m * 16) * kChunks + part + row_chunk) * 16)",
    ),
    Mutant("chunk of the rows", "conv.h", "row_chunk = lane() / 16;", "row_chunk = lane() / 8 % 2;"),
    Mutant("chunk of the columns", "conv.h", "column_chunk = lane() / 8 % 2;", "column_chunk = lane() / 16;"),
    Mutant("second tile", "conv.h", "b1[2] = {two[2], two[3]}", "b1[2] = {two[3], two[2]}"),
    # Barriers and copies.
    Mutant(
        "no barrier, asynchronous",
        "conv.h",
        "      wait_async<Stages - 2>();\n      block_barrier();",
        "      wait_async<Stages - 2>();",
        _ASYNC,
    ),
    Mutant(
        "barrier before the wait",
        "conv.h",
        "      wait_async<Stages - 2>();\n      block_barrier();",
        "      block_barrier();\n      wait_async<Stages - 2>();",
        _ASYNC,
    ),
    Mutant("waits for one fewer", "conv.h", "wait_async<Stages - 2>();", "wait_async<Stages - 1>();", _ASYNC),
    Mutant(
        "copies before the barrier",
        "conv.h",
        "      block_barrier();\n      if (step + Stages - 1 < count) copy_step(filled);",
        "      if (step + Stages - 1 < count) copy_step(filled);\n      block_barrier();",
        _ASYNC,
    ),
    Mutant("slots out of step", "conv.h", "filled = Stages - 1;", "filled = Stages - 2;", _ASYNC),
    Mutant(
        "no barrier, through registers",
        "conv.h",
        "      block_barrier();\n      if (step + 1 < count) read_step();",
        "      if (step + 1 < count) read_step();",
        (75,),
    ),
    Mutant("one buffer", "conv.h", "write_step((step + 1) % 2)", "write_step(step % 2)", (75,)),
    # Products.
    Mutant("quarters of a product", "products.h", "(c + 2, a[1], b[0])", "(c + 2, a[2], b[0])", (75,)),
    Mutant("depth of a product", "products.h", "(c, a[2], b[1])", "(c, a[2], b[0])", (75,)),
    Mutant("scale of bytes", "products.h", "T::kSigned ? 8 : 4", "T::kSigned ? 8 : 3", (90,)),
    Mutant("odd nibbles", "products.h", "(nibbles >> 4) & 0x0f0f0f0fU", "(nibbles >> 3) & 0x0f0f0f0fU", (90,)),
    # The end.
    Mutant("half", "epilogue.h", "const s32 half = static_cast<s32>((1U << shift) >> 1);", "const s32 half = 0;"),
    Mutant("ties of negative sums", "epilogue.h", "(shift > 0 ? v >> 63 : 0)", "0"),
    Mutant("ReLU", "epilogue.h", "clamped(v[i], e.relu_low, e.relu_high)", "clamped(v[i], kLowest, e.relu_high)"),
)
