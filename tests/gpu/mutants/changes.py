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
    layer : str
        Of :data:`mutants.layers.LAYERS`, one that shows it.
    """

    name: str
    file: str
    old: str
    new: str
    generations: tuple[int, ...] = (75, 80, 90)
    layer: str = "taps"


_ASYNC = (80, 90)
_LAYERS = (
    # Indices and constants of the tile.
    Mutant("rows of a warp", "conv.h", "kWarpsAcross * kWarpRows; }", "kWarpsAcross * 16; }"),
    Mutant("columns of a warp", "conv.h", "% kWarpsAcross * kWarpColumns; }", "% 1 * kWarpColumns; }"),
    Mutant("channel of a thread", "conv.h", "lane() % 4 * 8; }", "lane() / 8 * 8; }"),
    Mutant("row of a thread", "conv.h", "half * 8 + lane() / 4", "half * 8 + lane() % 8"),
    Mutant("half of a fragment", "conv.h", "[half * 2 + i % 2]", "[half + i % 2 * 2]"),
    Mutant("tile of a channel", "conv.h", "accumulators[m][i / 2]", "accumulators[m][i % 4]"),
    Mutant(
        "end of the rows",
        "conv.h",
        "if (row >= p.rows) continue;\n        s32 v[8];",
        "if (row > p.rows) continue;\n        s32 v[8];",
    ),
    Mutant("end of the channels", "conv.h", "if (first >= p.epilogue.out.pitch)", "if (first > p.epilogue.out.pitch)"),
    # Where operands come from.
    Mutant("stride", "conv.h", "% p.out_width * p.stride_w", "% p.out_width * p.stride_h"),
    Mutant("padding", "conv.h", "* p.stride_h - p.pad_top", "* p.stride_h - p.pad_left"),
    Mutant("dilation", "conv.h", "tap_x * p.dilation_w", "tap_x * p.dilation_h"),
    Mutant("upper edge", "conv.h", "y >= 0 && y < p.height", "y > 0 && y < p.height"),
    Mutant("right edge", "conv.h", "x < p.width;", "x <= p.width;", layer="codes"),
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
    Mutant("scale of bytes", "products.h", ": 4;", ": 3;", (90,)),
    Mutant("odd nibbles", "products.h", "(nibbles >> 4) & 0x0f0f0f0fU", "(nibbles >> 3) & 0x0f0f0f0fU", (90,)),
    # The end.
    Mutant(
        "half",
        "epilogue.h",
        "static_cast<s32>((1U << shift) >> 1)",
        "static_cast<s32>((1U << shift) >> 2)",
        layer="narrow",
    ),
    Mutant("ties of negative sums", "epilogue.h", "(shift > 0 ? v >> 63 : 0)", "0", layer="bytes"),
    Mutant("ReLU", "epilogue.h", "clamped(v[i], e.relu_low, e.relu_high)", "clamped(v[i], kLowest, e.relu_high)"),
)

#: Of the first convolution's kernel.
_STEM = (
    Mutant("rows of the region", "stem.h", "region_y() * p.stride_h - p.pad_top", "region_y() * p.stride_h"),
    Mutant(
        "columns of the region",
        "stem.h",
        "region_x() * p.stride_w - p.pad_left",
        "region_x() * p.stride_h - p.pad_left",
    ),
    Mutant("next tile", "stem.h", "% p.tiles_across * p.tile_w", "% p.tiles_across * p.tile_h"),
    Mutant("next image", "stem.h", "static_cast<s64>(image) * p.height", "static_cast<s64>(0) * p.height"),
    Mutant("lower edge of the input", "stem.h", "y >= p.height ||", "y > p.height ||"),
    Mutant("channel of a byte", "stem.h", "code << (8 * c)", "code << (8 * (c ^ 1))"),
    Mutant("second half of a window's row", "stem.h", "i / 2 * 16)", "i / 2 * 12)"),
    Mutant("rows of a fragment of words", "stem.h", "pixel[m][i % 2]", "pixel[m][i / 2]"),
    Mutant("next row of the window", "stem.h", "p.dilation_h * p.patch_w * 4", "p.patch_w * 4"),
    Mutant("weights of the next row", "stem.h", "weights += kColumns * 32;", "weights += kColumns * 16;"),
    Mutant("patch and weights overlap", "stem.h", "* 4 + 127) / 128 * 128)", "* 4) / 128 * 128)"),
    Mutant("no barrier after the fill", "stem.h", "start_sums();\n    block_barrier();", "start_sums();"),
    Mutant(
        "sums over weights in use", "stem.h", "block_barrier();\n      if (half() == columns)", "if (half() == columns)"
    ),
    Mutant("no barrier after the sums", "stem.h", "store_sums();\n      block_barrier();", "store_sums();"),
    Mutant("sums of the other half", "stem.h", "if (half() == columns)", "if (half() != columns)"),
    Mutant("place of sums", "stem.h", "chunk ^ ((row ^ row / 2) & 1)", "chunk | ((row ^ row / 2) & 1)"),
    Mutant("padding of the pool", "stem.h", "conv_y < 0 ||", "conv_y < -1 ||"),
    Mutant("step of the pool", "stem.h", "y0 = y * p.pool_stride_h", "y0 = y * p.pool_stride_w"),
    Mutant("largest", "stem.h", "sum > v[part * 4 + i]", "sum < v[part * 4 + i]"),
)

#: Of codes of 0 to 15.
_CODES = (
    Mutant("half of codes", "conv.h", "% 2]) + half_unit)", "% 2]))"),
    Mutant(
        "end of the rows of codes",
        "conv.h",
        "half) < p.rows) global_store",
        "half) <= p.rows) global_store",
    ),
    Mutant("place of codes", "conv.h", "(tensor.pitch / 2) + channel() / 2", "(tensor.pitch / 2) + channel() / 4"),
    Mutant("factor of codes", "conv.h", "(factor.word[i % 2]) + half", "(factor.word[i / 2]) + half"),
    Mutant("later bias", "conv.h", ">> kScale) + static_cast<s32>(bias.word[i % 2]);", ">> kScale);", (90,)),
    Mutant(
        "bias of a channel", "conv.h", "static_cast<s32>(bias.word[i % 2])", "static_cast<s32>(bias.word[i / 2])", (90,)
    ),
)
#: Of codes that are added to them.
_ADDED = (
    Mutant("nibble of a shortcut", "conv.h", "n * 2 + i % 2, false)", "n * 2 + i / 2, false)"),
    Mutant("row of a shortcut", "conv.h", "others[m][i / 2]", "others[m][i % 2]"),
    Mutant("half of a shortcut", "conv.h", "% 2]) + shortcut_half)", "% 2]))"),
    Mutant("shift of a shortcut", "conv.h", "half) >> e.shortcut_shift;", "half) >> e.shift;"),
)
#: Of projections.
_JOIN = (
    Mutant("no barrier between products", "conv.h", "  block_barrier();\n  C conv", "  C conv"),
    Mutant("sums of one product", "conv.h", "conv.start_with(projection);", "conv.start_sums();"),
    Mutant("least code of a projection", "conv.h", "e.shift), e.low, e.high);", "e.shift), kLowest, e.high);"),
    Mutant("largest code of a projection", "conv.h", "e.shift), e.low, e.high);", "e.shift), e.low, kHighest);"),
    Mutant("channel of a factor", "conv.h", "factor.word[i % 2], e.shift)", "factor.word[i / 2], e.shift)"),
    Mutant(
        "channel of a second factor",
        "conv.h",
        "(code, shortcut_factor.word[i % 2]",
        "(code, shortcut_factor.word[i / 2]",
    ),
    Mutant("scale of a projection", "conv.h", "[m][n][i] << kScale", "[m][n][i]", (90,)),
)
#: Of other layers.
_SEVERAL = (
    Mutant("row of a move", "layers.h", "load(p.rows + row), x", "load(p.rows + column), x"),
    Mutant("map of a move", "layers.h", "p.row_maps + row)", "p.column_maps + column)"),
    Mutant("channel of a move", "layers.h", "map * p.map_pitch + channel", "map * p.map_pitch"),
    Mutant("weights of rows", "layers.h", "left, channel, (p.rows.divisor - y)", "left, channel, y"),
    Mutant("right neighbour", "layers.h", "below + right", "below + left"),
    Mutant("halves between pixels", "layers.h", "2 * sums[i] + down / 2", "2 * sums[i]"),
    Mutant("factor of sums below 0", "epilogue.h", "!= nullptr && v[i] < 0)", "!= nullptr && v[i] > 0)"),
    Mutant("rescaled operand", "layers.h", "factors + channel + i), shift", "factors + channel), shift"),
)
MUTANTS = (
    *_LAYERS,
    *(mutant._replace(layer="stem") for mutant in _STEM),
    *(mutant._replace(layer="codes") for mutant in _CODES),
    *(mutant._replace(layer="added") for mutant in _ADDED),
    *(mutant._replace(layer="join") for mutant in _JOIN),
    *(mutant._replace(layer="several") for mutant in _SEVERAL),
)

#: Changes of inline assembly, which the host does not compile: their PTX must show them.
ASSEMBLY = (
    Mutant("matrices in another order", "ptx.h", "b16 {%0, %1, %2, %3}, [%4]", "b16 {%0, %2, %1, %3}, [%4]"),
    Mutant("bytes outside the image", "ptx.h", '"r"(valid ? 16 : 0)', '"r"(16)', _ASYNC),
    Mutant("groups that may be left", "ptx.h", '"n"(Left)', '"n"(Left + 1)', _ASYNC),
    Mutant("copies that are not committed", "ptx.h", '"cp.async.commit_group;\\n"', '"\\n"', _ASYNC),
    Mutant(
        "signs of a product", "ptx.h", '"m16n8k64.row.col.s32.u4.s4.s32"', '"m16n8k64.row.col.s32.s4.s4.s32"', (80,)
    ),
    Mutant("signs of bytes", "ptx.h", '"m16n8k32.row.col.s32.u8.s8.s32"', '"m16n8k32.row.col.s32.u8.u8.s32"', (90,)),
    Mutant(
        "signs of a product of 7.5",
        "ptx.h",
        '"m8n8k32.row.col.s32.u4.s4.s32"',
        '"m8n8k32.row.col.s32.s4.s4.s32"',
        (75,),
    ),
    Mutant("rows of a product", "ptx.h", '"r"(a[1]), "r"(a[2])', '"r"(a[2]), "r"(a[1])', _ASYNC),
    Mutant("columns of a product", "ptx.h", '"r"(b[0]), "r"(b[1])', '"r"(b[1]), "r"(b[0])', _ASYNC),
    Mutant("sides of a product of 7.5", "ptx.h", "{%2}, {%3}, {%0, %1}", "{%3}, {%2}, {%0, %1}", (75,)),
    Mutant("nibbles of a pair", "ptx.h", "u4.s32.b32 %0, %1, %2, %0", "u4.s32.b32 %0, %2, %1, %0", layer="codes"),
    Mutant("words of a vector", "ptx.h", "return {{v.x, v.y, v.z, v.w}};", "return {{v.x, v.y, v.z, v.z}};", (75,)),
    Mutant("words from shared memory", "ptx.h", "{{words.x, words.y,", "{{words.y, words.x,", layer="stem"),
    Mutant("half of a vector", "ptx.h", "value.word[2], value.word[3]);", "value.word[2], value.word[2]);", (75,)),
)
