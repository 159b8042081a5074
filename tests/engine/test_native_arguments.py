"""The native module by itself: bad sizes, ids, offsets and overlaps are refused; nothing passes its memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from agreement import ISAS

from nybble import _native
from nybble.graph.types import Array

VECTOR_ISAS = [isa for isa in ISAS if isa != "scalar"]
ARENA = 1 << 15
FUZZ_CASES = 400


class Small:
    """A program with one value of every kind, (33, 3, 4) each, and lists of ``bytes``; nothing overlaps.

    All but ``floats`` hold the input.
    """

    def __init__(self, isa: str, threads: int = 1) -> None:
        self.program = _native.Program(isa=isa, threads=threads, most_images=2, arena_bytes=ARENA)
        self.image = self.program.add_value("u8", 33, 3, 4, True, 0)
        self.bytes = self.program.add_value("u8", 33, 3, 4, False, 512)
        self.signed = self.program.add_value("s8", 33, 3, 4, False, 1536)
        self.sums = self.program.add_value("s32", 33, 3, 4, False, 2560)
        self.floats = self.program.add_value("f32", 33, 3, 4, False, 6144)
        self.more = self.program.add_value("u8", 33, 3, 4, False, 9728)
        self.lists = self.program.add_lists(self.bytes, 2, 16, 10752)
        self.joined = self.program.add_value("u8", 66, 3, 4, False, 24576)
        self.program.set_input(self.image)
        self.program.set_outputs([self.more])
        for target in (self.bytes, self.more, self.signed, self.sums):
            point = _native.PointSpec()
            point.input, point.output, point.requantize = self.image, target, True
            point.rule = rule(1, 0, 0, 127 if target == self.signed else 15)
            if target == self.bytes and isa != "scalar":
                point.output_lists = [self.lists]
            self.program.add_point(point)

    def conv(self, method: str = "direct") -> _native.ConvSpec:
        spec = _native.ConvSpec()
        spec.input, spec.output, spec.method, spec.magnitude = self.bytes, self.sums, method, 15
        if method == "sparse":
            spec.lists = self.lists
        return spec

    def pool(self) -> _native.PoolSpec:
        spec = _native.PoolSpec()
        spec.input, spec.output = self.bytes, self.more
        return spec

    def point(self) -> _native.PointSpec:
        spec = _native.PointSpec()
        spec.input, spec.output = self.bytes, self.sums
        return spec

    def table(self) -> _native.TableSpec:
        spec = _native.TableSpec()
        spec.input, spec.output, spec.table = self.bytes, self.more, list(range(255, -1, -1))
        return spec

    def mul(self) -> _native.MulSpec:
        spec = _native.MulSpec()
        spec.input, spec.other, spec.output = self.bytes, self.signed, self.sums
        return spec

    def concat(self) -> _native.ConcatSpec:
        spec = _native.ConcatSpec()
        spec.inputs = [self.image, self.bytes]
        spec.output = self.joined
        return spec

    def scale(self) -> _native.ScaleSpec:
        spec = _native.ScaleSpec()
        spec.input, spec.output, spec.scale = self.sums, self.floats, [2.0] * 33
        return spec

    def run(self, images: int = 3) -> None:
        value = np.random.default_rng(images).integers(0, 256, (images, 33 * 12), dtype=np.uint8)
        self.program.run_integer(value, np.zeros(images * 33 * 12, np.uint8))


def rule(factor: int, shift: int, low: int, high: int, channels: int = 33) -> _native.Requantize:
    made = _native.Requantize()
    made.factor, made.shift, made.low, made.high = [factor] * channels, shift, low, high
    return made


def weights(*shape: int) -> Array:
    return np.ones(shape or (33, 33, 1, 1), np.int8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"isa": "sse9"},
        {"isa": ""},
        {"threads": 0},
        {"threads": -1},
        {"threads": 1025},
        {"most_images": 0},
        {"most_images": 65537},
        {"arena_bytes": -1},
        {"arena_bytes": 1 << 40},
        {"arena_bytes": (1 << 63) - 1},
    ],
)
def test_programs_of_impossible_sizes(wrong: dict[str, object]) -> None:
    sizes: dict[str, object] = {"isa": "scalar", "threads": 1, "most_images": 8, "arena_bytes": 64}
    with pytest.raises(ValueError, match=r"instruction set|is not in|too large"):
        _native.Program(**{**sizes, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        ("u4", 1, 1, 1, False, 0),
        ("u8", 0, 1, 1, False, 0),
        ("u8", 1, -1, 1, False, 0),
        ("u8", 1, 1, 65537, False, 0),
        ("u8", 65536, 65536, 65536, False, 0),
        ("f32", 65536, 65536, 65536, True, 0),
        ("u8", 32, 32, 33, False, 0),
        ("u8", 32, 32, 32, False, 64),
        ("u8", 1, 1, 1, False, -64),
        ("u8", 1, 1, 1, False, 1),
        ("u8", 1, 1, 1, False, ARENA),
        ("u8", 1, 1, 1, False, (1 << 63) - 64),
    ],
)
def test_values_that_do_not_lie_in_the_arena(wrong: tuple[str, int, int, int, bool, int]) -> None:
    with pytest.raises(ValueError, match=r"extent|arena|element type"):
        Small("scalar").program.add_value(*wrong)


@pytest.mark.parametrize(("block", "offset"), [(0, 0), (8, 0), (17, 0), (128, 0), (-16, 0), (16, 1), (16, ARENA - 64)])
def test_lists_of_impossible_sizes(block: int, offset: int) -> None:
    small = Small("scalar")
    with pytest.raises(ValueError, match="lists: "):
        small.program.add_lists(small.bytes, 2, block, offset)


@pytest.mark.parametrize("group", [0, 3, 8, -1])
def test_lists_of_impossible_groups(group: int) -> None:
    small = Small("scalar")
    with pytest.raises(ValueError, match="one, two or four channels"):
        small.program.add_lists(small.bytes, group, 16, 0)


def test_ids_of_no_value_and_of_the_wrong_one() -> None:
    small = Small("scalar")
    program = small.program
    for wrong in (-1, 99, 2**31 - 1, -(2**31)):
        for call in (program.set_input, lambda i: program.set_outputs([i]), lambda i: program.add_lists(i, 2, 16, 0)):
            with pytest.raises(ValueError, match="no such value"):
                call(wrong)
        point = small.point()
        point.output_lists = [wrong]
        with pytest.raises(ValueError, match="no such value"):
            program.add_point(point)
    for wrong in (small.bytes, small.sums, small.lists):
        with pytest.raises(ValueError, match="input: "):
            program.set_input(wrong)
    for call in (
        lambda: program.set_outputs([small.lists]),
        lambda: program.add_lists(small.lists, 2, 16, 0),
        lambda: program.add_lists(small.image, 2, 16, 0),
    ):
        with pytest.raises(ValueError, match="lists"):
            call()


SPECS: dict[str, Callable[[Small], tuple[object, Callable[[object], None]]]] = {
    "conv": lambda small: (small.conv(), lambda spec: small.program.add_conv(spec, weights())),
    "pool": lambda small: (small.pool(), small.program.add_pool),
    "point": lambda small: (small.point(), small.program.add_point),
    "scale": lambda small: (small.scale(), small.program.add_scale),
    "table": lambda small: (small.table(), small.program.add_table),
    "mul": lambda small: (small.mul(), small.program.add_mul),
}
#: Those with an epilogue, which may have a table.
EPILOGUES = ("conv", "point", "mul")


@pytest.mark.parametrize("kind", SPECS)
def test_steps_of_wrong_values(kind: str) -> None:
    """No such value; a value of another shape; lists in place of one; one that the step would overwrite."""
    small = Small("scalar")
    thin = small.program.add_value("s32", 33, 1, 1, False, 12800)
    few = small.program.add_value("u8", 31, 3, 4, False, 13056)
    spec, add = SPECS[kind](small)
    add(spec)
    for field in ("input", "output"):
        for wrong in (-1, 99, -(2**31), 2**31 - 1, small.lists, spec.output, spec.input):
            if wrong == getattr(spec, field):
                continue
            fresh, add = SPECS[kind](small)
            setattr(fresh, field, wrong)
            with pytest.raises(ValueError, match=r"value|overwrites|lists"):
                add(fresh)
    if kind in ("point", "scale", "table", "mul"):
        for field, wrong in (("output", thin), ("output", few)):
            fresh, add = SPECS[kind](small)
            setattr(fresh, field, wrong)
            with pytest.raises(ValueError, match=r"shape|channels|32 bits|from s32|8-bit|to f32 only"):
                add(fresh)


def test_concatenations_that_do_not_add_up() -> None:
    small = Small("scalar")
    small.program.add_concat(small.concat())
    turned = small.program.add_value("u8", 33, 4, 3, False, 20480)
    pool = small.pool()
    pool.output = turned
    small.program.add_pool(pool)
    wrongs: dict[str, list[int]] = {
        "no inputs": [],
        "no such value": [small.image, 99],
        "types differ": [small.image, small.signed],
        "do not add up": [small.image, small.bytes, small.more],
        "sizes differ": [small.image, turned],
        "lists in place": [small.image, small.lists],
        "overwrites": [small.image, small.joined],
    }
    for message, inputs in wrongs.items():
        spec = small.concat()
        spec.inputs = inputs
        with pytest.raises(ValueError, match=message):
            small.program.add_concat(spec)
    spec = small.concat()
    spec.output = small.sums
    with pytest.raises(ValueError, match="8-bit values only"):
        small.program.add_concat(spec)
    small.run()


@pytest.mark.parametrize("field", ["kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"])
@pytest.mark.parametrize("kind", ["conv", "pool"])
def test_windows_of_impossible_extents(kind: str, field: str) -> None:
    for wrong in (0, -1, 65537, -(2**31), 2**31 - 1):
        spec, add = SPECS[kind](Small("scalar"))
        setattr(spec, field, wrong)
        with pytest.raises(ValueError, match="window"):
            add(spec)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("pad_top", -1),
        ("pad_left", 65537),
        ("groups", 0),
        ("groups", -1),
        ("groups", 2),
        ("method", "fast"),
        ("method", ""),
        ("block_outputs", 0),
        ("block_outputs", 33),
        ("block_outputs", 288),
        ("tile_pixels", 0),
        ("tile_pixels", 65),
        ("bias", [1]),
        ("bias", [1] * 64),
        ("shortcut", 99),
        ("relu_maximum", -1),
        ("kernel_h", 2),
    ],
)
def test_convolutions_that_make_no_sense(field: str, wrong: object) -> None:
    small = Small("scalar")
    spec = small.conv()
    spec.relu = True
    setattr(spec, field, wrong)
    with pytest.raises(ValueError, match=r"\w+: .*"):
        small.program.add_conv(spec, weights())


def test_requantization_that_makes_no_sense() -> None:
    small = Small("scalar")
    wrongs = [
        rule(1, 0, 0, 255, 32),
        rule(1, 0, 0, 255, 64),
        rule(1, -1, 0, 255),
        rule(1, 32, 0, 255),
        rule(1, 0, 1, 0),
    ]
    for wrong in wrongs:
        for spec, add in (SPECS[kind](small) for kind in EPILOGUES):
            spec.output, spec.requantize, spec.rule = small.more, True, wrong  # type: ignore[attr-defined]
            with pytest.raises(ValueError, match=r"requantize|factors"):
                add(spec)
    spec, add = SPECS["point"](small)
    spec.output = small.more  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="32 bits"):
        add(spec)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "16, 128 or 256"),
        ([0] * 15, "16, 128 or 256"),
        ([0] * 17, "16, 128 or 256"),
        ([0] * 257, "16, 128 or 256"),
        ([0] * 255 + [256], "range of the output"),
        ([-1] + [0] * 15, "range of the output"),
        ([2**31 - 1] * 128, "range of the output"),
    ],
)
def test_tables_of_the_wrong_size_or_range(table: list[int], message: str) -> None:
    small = Small("scalar")
    spec = small.table()
    spec.table = table
    with pytest.raises(ValueError, match=f"^table: .*{message}"):
        small.program.add_table(spec)


def test_tables_between_types_that_they_do_not_fit() -> None:
    small = Small("scalar")
    small.program.add_table(small.table())
    signed = small.program.add_value("s8", 33, 3, 4, False, 12800)
    for source, target, table, message in (
        (small.signed, small.more, [0] * 128, "signed codes have 16 or 256"),
        (small.bytes, signed, [128] * 16, "range of the output"),
        (small.bytes, signed, [-129] * 16, "range of the output"),
        (small.sums, small.more, [0] * 256, "8-bit values only"),
        (small.bytes, small.sums, [0] * 256, "8-bit values only"),
        (small.bytes, small.floats, [0] * 256, "8-bit values only"),
    ):
        spec = small.table()
        spec.input, spec.output, spec.table = source, target, table
        with pytest.raises(ValueError, match=f"^table: .*{message}"):
            small.program.add_table(spec)
    small.run()


@pytest.mark.parametrize("kind", EPILOGUES)
def test_tables_in_epilogues_that_they_do_not_fit(kind: str) -> None:
    small = Small("scalar")
    signed = small.program.add_value("s8", 33, 3, 4, False, 12800)
    for output, low, high, table, message in (
        (small.more, 0, 15, [0] * 128, "an entry for each code"),
        (small.more, -8, 7, [0] * 256, "an entry for each code"),
        (small.more, -(2**31), 2**31 - 1, [0] * 16, "an entry for each code"),
        (small.more, 1, 16, [0] * 16, "start neither at 0"),
        (small.more, -64, 63, [0] * 128, "signed codes have 16 or 256"),
        (small.more, 0, 14, [0] * 15, "16, 128 or 256"),
        (small.more, 0, 15, [0] * 15 + [-1], "range of the output"),
        (signed, 0, 15, [128] * 16, "range of the output"),
        (small.sums, 0, 15, [0] * 16, "8-bit values only"),
    ):
        spec, add = SPECS[kind](small)
        spec.output, spec.table, spec.requantize, spec.rule = output, table, True, rule(1, 0, low, high)  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match=f"^table: .*{message}"):
            add(spec)
    spec, add = SPECS[kind](small)
    spec.output, spec.table = small.more, [0] * 16  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="does not requantize"):
        add(spec)
    spec.output, spec.table, spec.requantize, spec.rule = signed, [-3] * 16, True, rule(1, 0, 0, 15)  # type: ignore[attr-defined]
    add(spec)
    small.run()


def test_products_of_values_that_do_not_fit() -> None:
    small = Small("scalar")
    small.program.add_mul(small.mul())
    gates = [small.program.add_value("u8", channels, 1, 1, False, 12800 + 64 * channels) for channels in (33, 32)]
    thin = small.program.add_value("u8", 33, 3, 1, False, 20480)
    for target in (*gates, thin):
        pool = small.pool()
        pool.output = target
        if target != gates[1]:
            small.program.add_pool(pool)
    spec = small.mul()
    spec.other = gates[0]
    small.program.add_mul(spec)
    tight = small.program.add_value("s32", 33, 3, 4, True, 22528)
    for field, wrong, message in (
        ("other", thin, "neither this shape nor one pixel"),
        ("input", gates[0], "shapes differ"),
        ("other", gates[1], "nothing has written"),
        ("other", small.floats, "nothing has written"),
        ("other", small.sums, "overwrites"),
        ("other", -1, "no such value"),
        ("other", small.lists, "lists in place"),
        ("output", small.floats, "cannot write floats"),
        ("output", small.more, "32 bits"),
        ("output", tight, "padded"),
        ("magnitude", 0, "magnitude"),
        ("magnitude", 256, "magnitude"),
        ("other_magnitude", -1, "magnitude"),
    ):
        spec = small.mul()
        setattr(spec, field, wrong)
        with pytest.raises(ValueError, match=message):
            small.program.add_mul(spec)
    small.run()


@pytest.mark.parametrize("groups", [1, 3])
def test_a_convolution_into_a_value_without_padding(groups: int) -> None:
    """Kernels write whole vectors of channels."""
    small = Small("scalar")
    tight = small.program.add_value("s32", 33, 3, 4, True, 12800)
    spec = small.conv()
    spec.output, spec.groups = tight, groups
    with pytest.raises(ValueError, match="conv"):
        small.program.add_conv(spec, weights(33, 33 // groups, 1, 1))


@pytest.mark.parametrize("isa", VECTOR_ISAS)
def test_sparse_convolutions_need_lists_that_fit(isa: str) -> None:
    small = Small(isa)
    small.program.add_conv(small.conv("sparse"), weights())
    others = small.program.add_lists(small.program.add_value("u8", 33, 4, 3, False, 12800), 2, 16, 13824)
    for field, wrong in (
        ("lists", -1),
        ("lists", 99),
        ("lists", small.more),
        ("lists", others),
        ("input", small.signed),
        ("magnitude", 16000),
        ("visit_bytes", 0),
        ("visit_bytes", 1 << 40),
    ):
        spec = small.conv("sparse")
        setattr(spec, field, wrong)
        with pytest.raises(ValueError, match=r"conv|value"):
            small.program.add_conv(spec, weights())
    small.run()


@pytest.mark.parametrize("isa", VECTOR_ISAS)
@pytest.mark.parametrize("kind", ["conv", "pool", "point", "table", "mul"])
def test_steps_build_lists_of_what_they_write_only(isa: str, kind: str) -> None:
    small = Small(isa)
    program = small.program
    of_more = program.add_lists(small.more, 2, 16, 12800)
    of_sums = program.add_lists(small.sums, 2, 16, 13824)
    over_output = program.add_lists(small.more, 2, 16, 9728 + 64)
    over_input = program.add_lists(small.more, 2, 16, 512)
    over_lists = program.add_lists(small.more, 2, 32, 12800 + 64)
    for output, wrong in (
        (small.more, [small.lists]),
        (small.more, [small.bytes]),
        (small.more, [small.more]),
        (small.more, [over_output]),
        (small.more, [over_input]),
        (small.more, [of_more, over_lists]),
        (small.more, [of_more, of_more]),
        (small.sums, [of_sums]),
    ):
        spec, add = SPECS[kind](small)
        spec.output, spec.output_lists = output, wrong  # type: ignore[attr-defined]
        if kind in EPILOGUES and output == small.more:
            spec.requantize, spec.rule = True, rule(1, 0, 0, 15)  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match=r"lists|8-bit values only|overwrites"):
            add(spec)
    small.run()


@pytest.mark.parametrize("isa", VECTOR_ISAS)
def test_lists_outlive_their_value_but_not_what_is_written_over_them(isa: str) -> None:
    small = Small(isa)
    program = small.program
    over = program.add_value("u8", 33, 3, 4, False, 512 + 64)
    pool = small.pool()
    pool.input, pool.output = small.more, over
    program.add_pool(pool)
    program.add_conv(small.conv("sparse"), weights())
    with pytest.raises(ValueError, match="nothing has written"):
        program.add_conv(small.conv(), weights())
    pool.output = program.add_value("u8", 33, 3, 4, False, 10752)
    program.add_pool(pool)
    with pytest.raises(ValueError, match="nothing has written"):
        program.add_conv(small.conv("sparse"), weights())
    small.run()


@pytest.mark.parametrize("isa", VECTOR_ISAS)
def test_winograd_needs_its_window_and_small_operands(isa: str) -> None:
    small = Small(isa)

    def spec(**fields: int) -> _native.ConvSpec:
        made = small.conv("winograd")
        made.kernel_h = made.kernel_w = 3
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    small.program.add_conv(spec(), weights(33, 33, 3, 3))
    small.program.add_conv(spec(block_outputs=32, tile_pixels=1), weights(33, 33, 3, 3) * np.int8(-8))
    for wrong in (
        {"stride_h": 2},
        {"stride_w": 2},
        {"dilation_h": 2},
        {"dilation_w": 2},
        {"magnitude": 0},
        {"magnitude": 16},
        {"block_outputs": 160},
        {"input": small.signed},
        {"input": small.image},
    ):
        with pytest.raises(ValueError, match="conv"):
            small.program.add_conv(spec(**wrong), weights(33, 33, 3, 3))
    for size in (-9, 9, 127):
        with pytest.raises(ValueError, match="weights of at most 8"):
            small.program.add_conv(spec(), weights(33, 33, 3, 3) * np.int8(size))
    for extents in ((1, 3), (3, 1), (5, 3)):
        with pytest.raises(ValueError, match="3x3"):
            small.program.add_conv(spec(kernel_h=extents[0], kernel_w=extents[1]), weights(33, 33, *extents))
    small.run()


@pytest.mark.parametrize("isa", VECTOR_ISAS)
def test_pairs_and_groups_need_padded_inputs_and_pairs_small_weights(isa: str) -> None:
    small = Small(isa)
    for method in ("pair", "grouped"):
        for wrong in ({"input": small.image}, {"magnitude": 0}, {"magnitude": 256}):
            spec = small.conv(method)
            for name, value in wrong.items():
                setattr(spec, name, value)
            with pytest.raises(ValueError, match=r"padded inputs|magnitude"):
                small.program.add_conv(spec, weights())
    grouped = small.conv("grouped")
    grouped.groups = 33
    small.program.add_conv(grouped, weights(33, 1, 1, 1) * np.int8(-128))
    # Signed inputs are 0 to 255 once they have their offset: 2 * 255 * 64 fits 16 bits, 2 * 255 * 65 does not.
    signed = small.conv("pair")
    signed.input, signed.magnitude = small.signed, 128
    small.program.add_conv(signed, np.full((33, 33, 1, 1), -64, np.int8))
    with pytest.raises(ValueError, match="saturate"):
        small.program.add_conv(signed, np.full((33, 33, 1, 1), 65, np.int8))
    small.run()


def test_the_portable_kernels_have_no_lists() -> None:
    small = Small("scalar")
    methods = ("sparse", "wide", "chained", "quad", "winograd", "pair", "single", "inner", "winograd_quad")
    methods += ("grouped", "depthwise")
    for method in methods:
        with pytest.raises(ValueError, match=r"instruction set|lists"):
            small.program.add_conv(small.conv(method), weights())
    pool = small.pool()
    pool.input, pool.output, pool.output_lists = small.more, small.bytes, [small.lists]
    with pytest.raises(ValueError, match="instruction set"):
        small.program.add_pool(pool)


def test_arrays_of_the_wrong_size() -> None:
    small = Small("scalar")
    small.program.add_conv(small.conv(), weights())
    image, out = np.zeros((2, 33 * 12), np.uint8), np.zeros(2 * 33 * 12, np.uint8)
    table = np.zeros((33, 256), np.uint8)
    program = small.program
    program.run_integer(image, out)
    program.run_samples(image, table, out)
    assert program.run_float(image.astype(np.float32), 1.0, 1.0, 0.0, 255.0, out)
    tap = np.zeros(2 * 33 * 12, np.uint8)
    program.run_tapped(image, out, [small.more], [tap])
    short = out[:-1].copy()
    for call in (
        lambda: program.run_integer(image[:, :-1].copy(), out),
        lambda: program.run_integer(image, short),
        lambda: program.run_integer(np.uint8(0).reshape(()), out),
        lambda: program.run_samples(image, table[1:].copy(), out),
        lambda: program.run_samples(image, table, short),
        lambda: program.run_float(image.astype(np.float32), 1.0, 1.0, 0.0, 255.0, short),
        lambda: program.run_tapped(image, short, [small.more], [tap]),
        lambda: program.run_tapped(image, out, [small.more], []),
        lambda: program.run_tapped(image, out, [99], [tap]),
        lambda: program.run_tapped(image, out, [small.sums], [tap]),
        lambda: program.run_tapped(image, out, [small.lists], [tap]),
        lambda: program.run_tapped(np.zeros((3, 33 * 12), np.uint8), np.zeros(3 * 33 * 12, np.uint8), [], []),
    ):
        with pytest.raises(ValueError, match=r"size|value|array|lists|run_tapped"):
            call()


def test_an_unfinished_program_does_not_run() -> None:
    program = _native.Program("scalar", 1, 1, 256)
    image, out = np.zeros((1, 1), np.uint8), np.zeros(1, np.uint8)
    with pytest.raises(ValueError, match="no such value"):
        program.run_integer(image, out)
    source = program.add_value("u8", 1, 1, 1, True, 0)
    result = program.add_value("u8", 1, 1, 1, False, 64)
    program.set_input(source)
    program.set_outputs([result])
    with pytest.raises(ValueError, match="steps"):
        program.run_integer(image, out)
    pool = _native.PoolSpec()
    pool.input, pool.output = source, program.add_value("u8", 1, 1, 1, False, 128)
    program.add_pool(pool)
    with pytest.raises(ValueError, match="no step writes the output"):
        program.run_integer(image, out)
    pool.output = result
    program.add_pool(pool)
    image[:] = 7
    program.run_integer(image, out)
    assert out == 7


def test_values_that_hold_nothing_are_not_read() -> None:
    """Never written, or overwritten by another value in the same place; lists that were not built, or no longer are."""
    small = Small(ISAS[-1])
    program = small.program
    unwritten = program.add_value("u8", 33, 3, 4, False, 12800)
    over = program.add_value("u8", 33, 3, 4, False, 512 + 64)
    lists = program.add_lists(small.bytes, 2, 32, 13952)

    def pool(source: int, target: int) -> None:
        spec = small.pool()
        spec.input, spec.output = source, target
        program.add_pool(spec)

    with pytest.raises(ValueError, match="nothing has written"):
        pool(unwritten, small.more)
    with pytest.raises(ValueError, match="overwrites"):
        pool(small.bytes, over)
    pool(small.more, over)
    with pytest.raises(ValueError, match="nothing has written"):
        pool(small.bytes, unwritten)
    if VECTOR_ISAS:
        spec = small.conv("sparse")
        spec.input, spec.lists = small.more, lists
        with pytest.raises(ValueError, match="lists"):
            program.add_conv(spec, weights())
    small.run()


NUMBERS = (-(2**31), -1, 0, 1, 2, 3, 4, 5, 7, 31, 32, 33, 63, 64, 65, 96, 255, 256, 65536, 65537, 2**31 - 1)
CONV_FIELDS = ("input", "output", "lists", "shortcut", "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top")
CONV_FIELDS += ("pad_left", "dilation_h", "dilation_w", "groups", "magnitude", "block_outputs", "tile_pixels")
CONV_FIELDS += ("visit_bytes", "relu_maximum")
POOL_FIELDS = ("input", "output", "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_left", "pad_bottom")
POOL_FIELDS += ("pad_right", "dilation_h", "dilation_w")


@pytest.mark.parametrize("isa", ISAS)
def test_mutated_steps_are_refused_or_run(isa: str) -> None:
    """Whatever numbers a step is made of, it raises ValueError or runs within its memory."""
    random = np.random.default_rng(20)
    accepted = overwritten = 0
    for _ in range(FUZZ_CASES):
        small = Small(isa, threads=int(random.integers(1, 3)))
        for _ in range(2):
            with contextlib.suppress(ValueError):
                add_mutated(small, random)
                accepted += 1
        try:
            small.run()
        except ValueError as error:
            # Lists lie anywhere, now and then over the program's output.
            assert "no step writes the output" in str(error)
            overwritten += 1
    assert overwritten < FUZZ_CASES // 20
    # Most mutations are refused; were all of them, nothing would have been tested.
    assert FUZZ_CASES // 10 < accepted < 2 * FUZZ_CASES


FUZZED = ["direct", "wide", "chained", "quad", "sparse", "winograd", "pair", "single", "grouped", "inner"]
FUZZED += ["winograd_quad", "winograd_inner", "depthwise"]


def add_mutated(small: Small, random: np.random.Generator) -> None:
    kind = random.choice(["conv", "conv", "conv", "pool", "point", "concat", "scale", "table", "mul"])
    if kind == "conv":
        spec = small.conv(str(random.choice(FUZZED)))
        if random.random() < 0.3:
            spec.output, spec.requantize, spec.rule = small.more, True, rule(3, 4, 0, 15)
        spec.relu = bool(random.integers(2))
        kernel = [1, 1]
        if spec.method.startswith("winograd"):
            spec.block_outputs, kernel = 32, [3, 3]
            spec.kernel_h, spec.kernel_w = kernel
            spec.pad_top, spec.pad_left = (int(pad) for pad in random.integers(0, 4, 2))
        elif random.random() < 0.5:
            kernel = [int(extent) for extent in random.integers(1, 4, 2)]
            spec.kernel_h, spec.kernel_w = kernel
            spec.pad_top, spec.pad_left = (int(pad) for pad in random.integers(0, 4, 2))
        mutate(spec, CONV_FIELDS, random)
        add_lists_of(spec, small, random)
        inputs = 33 // spec.groups if spec.groups in (3, 11, 33) else 33
        small.program.add_conv(spec, random.integers(-8, 8, (33, inputs, *kernel)).astype(np.int8))
    elif kind == "pool":
        spec = small.pool()
        spec.average = bool(random.integers(2))
        mutate(spec, POOL_FIELDS, random)
        add_lists_of(spec, small, random)
        small.program.add_pool(spec)
    elif kind == "point":
        spec = small.point()
        mutate(spec, ("input", "output", "other", "relu_maximum"), random)
        add_lists_of(spec, small, random)
        small.program.add_point(spec)
    elif kind == "table":
        spec = small.table()
        spec.table = random.integers(0, 256, int(random.choice([16, 128, 256]))).tolist()
        mutate(spec, ("input", "output"), random)
        add_lists_of(spec, small, random)
        small.program.add_table(spec)
    elif kind == "mul":
        spec = small.mul()
        if random.random() < 0.5:
            spec.output, spec.requantize, spec.rule = small.more, True, rule(3, 4, 0, 15)
            spec.table = random.integers(0, 256, int(random.choice([0, 16, 128]))).tolist()
        mutate(spec, ("input", "output", "other", "magnitude", "other_magnitude", "relu_maximum"), random)
        add_lists_of(spec, small, random)
        small.program.add_mul(spec)
    elif kind == "concat":
        spec = small.concat()
        choices = [small.image, small.bytes, small.more, small.signed, small.joined, small.lists, 99]
        if random.random() < 0.5:
            spec.inputs = [int(value) for value in random.choice(choices, random.integers(0, 4))]
        if random.random() < 0.5:
            spec.output = int(random.choice(NUMBERS[:8]))
        add_lists_of(spec, small, random)
        small.program.add_concat(spec)
    else:
        spec = small.scale()
        mutate(spec, ("input", "output"), random)
        small.program.add_scale(spec)


def add_lists_of(spec: object, small: Small, random: np.random.Generator) -> None:
    """Sometimes lists of what a step writes, or of something else, for it to build."""
    if random.random() < 0.3:
        of = spec.output if random.random() < 0.7 else small.bytes  # type: ignore[attr-defined]
        offset = 64 * int(random.integers(0, ARENA // 64))
        spec.output_lists = [small.program.add_lists(of, int(random.choice([1, 2, 4])), 16, offset)]  # type: ignore[attr-defined]


def mutate(spec: object, fields: tuple[str, ...], random: np.random.Generator) -> None:
    for field in random.choice(fields, random.integers(0, 3), replace=False):
        numbers = [n for n in NUMBERS if n != 65536] if field.startswith(("stride", "dilation")) else NUMBERS
        setattr(spec, str(field), int(random.choice(numbers[:8] if field in ("input", "output") else numbers)))
