"""The effect of each instruction on the active lanes. An unknown mnemonic is an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from nybble.graph.types import Array
from ptx import collectives
from ptx.errors import PtxError
from ptx.memory import GLOBAL, PARAM, SHARED, Bytes, aligned
from ptx.state import TYPES, State
from ptx.text import Statement

Act = Callable[[State], None]
Operand = Callable[[State], Any]


@cache
def source(text: str, kind: str) -> Operand:
    """A register, a special one, the address of the parameter or of shared memory, or a number, as a type."""
    if re.match(r"%(tid|ntid|ctaid)\.", text):
        return lambda s: s.special[text].view(TYPES[kind])
    if text.startswith("%"):
        return lambda s: s.view(text, kind)
    if text.endswith("shared_bytesE"):
        return lambda s: TYPES[kind](SHARED)
    if re.search(r"_param_0$", text):
        return lambda s: TYPES[kind](PARAM)
    bits = 8 * np.dtype(TYPES[kind]).itemsize
    if kind == "pred":
        number: np.generic = np.bool_(int(text))
    else:
        number = np.array(int(text, 0) % (1 << bits), f"u{bits // 8}").view(TYPES[kind])[()]
    return lambda s: number


@cache
def target(text: str, kind: str) -> Operand:
    """A register as a type."""
    return lambda s: s.view(text, kind)


def _shifted_left(a: Array, b: Array) -> Array:
    bits = 8 * a.dtype.itemsize
    return np.where(b < bits, a << (b % bits).astype(a.dtype), 0).astype(a.dtype)


def _shifted_right(a: Array, b: Array) -> Array:
    return a >> np.minimum(b, 8 * a.dtype.itemsize - 1).astype(a.dtype)


def _shifted_right_unsigned(a: Array, b: Array) -> Array:
    bits = 8 * a.dtype.itemsize
    return np.where(b < bits, a >> (b % bits).astype(a.dtype), 0).astype(a.dtype)


def _quotient(a: Array, b: Array) -> Array:
    """Division towards zero. Inactive lanes may have a divisor of 0; their result is 0."""
    found = np.abs(a) // np.where(b == 0, 1, np.abs(b))
    return np.where((a < 0) != (b < 0), -found, found).astype(a.dtype)


def _bytes_of_two(a: Array, b: Array, selectors: Array) -> Array:
    both = a.astype(np.uint64) | np.asarray(b, np.uint64) << np.uint64(32)
    found = np.zeros(np.broadcast(a, b, selectors).shape, np.uint32)
    for i in range(4):
        selector = (np.asarray(selectors) >> np.uint32(4 * i)) & np.uint32(15)
        byte = (both >> (8 * (selector & np.uint32(7))).astype(np.uint64)).astype(np.uint32) & np.uint32(255)
        sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
        found |= np.where(selector & np.uint32(8), sign, byte) << np.uint32(8 * i)
    return found


def _nearest(a: Array) -> Array:
    """``cvt.rni.s32.f32`` of numbers within 32 bits, which the kernels clamp them to."""
    if np.any(np.abs(a[np.isfinite(a)]) >= 2**31):
        raise PtxError("cvt.rni.s32.f32: a number beyond 32 bits")
    return np.rint(np.where(np.isfinite(a), a, 0)).astype(np.int32)


def _inserted(a: Array, b: Array, start: Array, length: Array) -> Array:
    """``bfi.b32``: the lowest bits of `a` in place of those of `b` from ``start`` on."""
    first, count = (np.asarray(v, np.uint64) & np.uint64(255) for v in (start, length))
    mask = _shifted_left(_shifted_left(np.uint64(1) + np.zeros_like(first), count) - np.uint64(1), first)
    low = mask.astype(np.uint32)
    moved = _shifted_left(np.asarray(a, np.uint64) + np.zeros_like(first), first).astype(np.uint32)
    found: Array = (b & ~low) | (moved & low)
    return found


def _packed(kind: str) -> Callable[[Array, Array, Array], Array]:
    low, high = {"u4": (0, 15), "s4": (-8, 7)}[kind]

    def pack(a: Array, b: Array, c: Array) -> Array:
        upper, lower = (np.clip(v, low, high).view(np.uint32) & np.uint32(15) for v in (a, b))
        return c << np.uint32(8) | upper << np.uint32(4) | lower

    return pack


#: NumPy's functions with an ``out`` and a ``where``.
_PLAIN: dict[str, np.ufunc] = {
    "add": np.add, "sub": np.subtract, "mul.lo": np.multiply, "min": np.minimum, "max": np.maximum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "neg": np.negative,
}  # fmt: skip
#: Those of float32. Of NaN and a number, ``min`` and ``max`` give the number.
_FLOAT: dict[str, np.ufunc] = {"div.rn": np.divide, "mul.rn": np.multiply, "min": np.fmin, "max": np.fmax}
_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal
}  # fmt: skip
#: Functions of values, by mnemonic without the type.
_COMPUTED: dict[str, Callable[..., Array]] = {
    "mad.lo": lambda a, b, c: a * b + c,
    "selp": lambda a, b, p: np.where(p, a, b),
    "div": _quotient,
    "rem": lambda a, b: a - b * _quotient(a, b),
    "prmt": _bytes_of_two,
}


def _plain(function: np.ufunc, statement: Statement, kinds: list[str], result: str) -> Act:
    to = target(statement.operands[0], result)
    sources = [source(text, kind) for text, kind in zip(statement.operands[1:], kinds, strict=True)]
    if len(sources) == 1:
        (only,) = sources

        def act(s: State) -> None:
            function(only(s), out=to(s), where=s.running)

    else:
        a, b = sources

        def act(s: State) -> None:
            function(a(s), b(s), out=to(s), where=s.running)

    return act


def _computed(function: Callable[..., Array], statement: Statement, kinds: list[str], result: str) -> Act:
    to = target(statement.operands[0], result)
    sources = [source(text, kind) for text, kind in zip(statement.operands[1:], kinds, strict=True)]

    def act(s: State) -> None:
        np.copyto(to(s), function(*(one(s) for one in sources)), where=s.running)

    return act


def _move(statement: Statement, kind: str) -> Act:
    to, value = target(statement.operands[0], kind), source(statement.operands[1], kind)
    return lambda s: np.copyto(to(s), value(s), where=s.running)


def _convert(statement: Statement, to_kind: str, from_kind: str) -> Act:
    """Integers are truncated, or extended by the sign of the source; a sum becomes the nearest float."""
    to, origin = statement.operands
    from_type = TYPES[from_kind]

    def act(s: State) -> None:
        values = s.whole(origin, from_kind)
        if values.dtype != from_type:
            values = values.astype(from_type)
        np.copyto(s.whole(to, to_kind), values.astype(TYPES[to_kind]), where=s.running)

    return act


def _divide_checked(act: Act, divisor: Operand) -> Act:
    def checked(s: State) -> None:
        values = np.asarray(divisor(s))
        if not np.all(values[s.lanes] if values.ndim else values):
            raise PtxError("a division by zero")
        act(s)

    return checked


def _address(text: str) -> Operand:
    """The addresses of running lanes: a register, a symbol, either with an offset."""
    found = re.fullmatch(r"\[([\w%$.]+?)(?:\+(-?\d+))?\]", text)
    if found is None:
        raise PtxError(f"the address {text} is not understood")
    base, offset = found[1], int(found[2] or 0)
    if not base.startswith("%"):
        value = source(base, "u64")
        return lambda s: np.full(len(s.special["%tid.x"][s.lanes]), int(value(s)) + offset, np.uint64)

    def addresses(s: State) -> Array:
        kind = "u" + s.registers[base][1:]
        return s.view(base, kind)[s.lanes].astype(np.int64) + offset  # type: ignore[no-any-return]

    return lambda s: addresses(s).view(np.uint64)


def _place(space: str, s: State, addresses: Array, size: int) -> tuple[Bytes, Array]:
    """The memory that addresses belong to, and the places in it. A generic address is global, or in the parameters."""
    if space == "shared":
        return s.shared.bytes, s.shared.offsets(addresses, s.lanes, size)
    if space == "param" or (space == "generic" and len(addresses) and addresses[0] < GLOBAL):
        offsets = addresses.view(np.int64) - PARAM
        aligned(offsets, size, "parameters")
        if len(offsets) and (offsets.min() < 0 or offsets.max() + size > len(s.params)):
            raise PtxError("parameters: an access outside of them")
        return Bytes(s.params), offsets
    return s.memory.bytes, s.memory.offsets(addresses, size)


def _names(text: str) -> list[str]:
    return re.findall(r"[^\s,{}]+", text)


def _access(statement: Statement) -> tuple[str, int, str]:
    """Space, elements and type of a load or store: ``ld.global.nc.v2.u32``."""
    parts = statement.op.split(".")[1:]
    space = parts[0] if parts[0] in ("global", "shared", "param") else "generic"
    vectors = [int(part[1:]) for part in parts if re.fullmatch(r"v\d", part)]
    return space, vectors[0] if vectors else 1, parts[-1]


def _load(statement: Statement) -> Act:
    space, count, kind = _access(statement)
    registers, address = _names(statement.operands[0]), _address(statement.operands[1])
    size = np.dtype(TYPES[kind]).itemsize * count

    def act(s: State) -> None:
        memory, offsets = _place(space, s, address(s), size)
        found = memory.read(offsets, TYPES[kind], count)
        for i, register in enumerate(registers):
            s.store(s.whole(register, kind), found[:, i])

    return act


def _store(statement: Statement) -> Act:
    space, count, kind = _access(statement)
    address = _address(statement.operands[0])
    sources = [source(name, kind) for name in _names(statement.operands[1])]
    size = np.dtype(TYPES[kind]).itemsize * count

    def act(s: State) -> None:
        memory, offsets = _place(space, s, address(s), size)
        values = np.empty((len(offsets), count), TYPES[kind])
        for i, one in enumerate(sources):
            value = one(s)
            values[:, i] = value[s.lanes] if np.ndim(value) else value
        memory.write(offsets, values)

    return act


def _whole_warps(s: State, op: str) -> None:
    if s.running is not True and (np.asarray(s.running).reshape(-1, 32).sum(axis=1) % 32).any():
        raise PtxError(f"{op}: lanes of a warp do not come to it together")


def _multiply(statement: Statement) -> Act:
    # mma.sync.aligned.SHAPE.row.col.s32.A.B.s32
    parts = statement.op.split(".")
    rows = re.match(r"m(\d+)n8", parts[3])
    kinds = parts[7], parts[8]
    depth = int(parts[3].split("k")[1])
    d, a, b, c = ([source(name, "u32") for name in _names(text)] for text in statement.operands)
    assert rows is not None
    # A register of eight lanes of rows: four lanes of 32 bits in depth.
    per_register = 4 * 32 // int(kinds[0][1])
    if (len(a), len(b)) != (int(rows[1]) // 8 * depth // per_register, depth // per_register):
        raise PtxError(f"{statement.op}: not this many registers")

    def act(s: State) -> None:
        _whole_warps(s, statement.op)
        operands = ([one(s)[s.lanes] for one in many] for many in (a, b, c))
        for to, sums in zip(d, collectives.multiply(*operands, kinds), strict=True):
            s.store(to(s), sums)

    return act


def _load_matrices(statement: Statement) -> Act:
    registers, address = _names(statement.operands[0]), _address(statement.operands[1])

    def act(s: State) -> None:
        _whole_warps(s, statement.op)
        offsets = s.shared.offsets(address(s), s.lanes, 16)
        for register, words in zip(
            registers, collectives.load_matrices(s.shared.bytes.rows(np.uint32, 4), offsets), strict=True
        ):
            s.store(s.view(register, "u32"), words)

    return act


def _copy_async(statement: Statement) -> Act:
    """Completes when it is waited for and not before. With size 0 it reads nothing and writes zeros."""
    to, origin = _address(statement.operands[0]), _address(statement.operands[1])
    if statement.operands[2] != "16":
        raise PtxError(f"{statement.op} of {statement.operands[2]} bytes")
    size = source(statement.operands[3], "u32") if len(statement.operands) > 3 else lambda s: np.uint32(16)

    def act(s: State) -> None:
        sizes = np.broadcast_to(size(s), s.count)[s.lanes]
        if np.any((sizes != 0) & (sizes != 16)):
            raise PtxError(f"{statement.op}: a source of neither 0 nor 16 bytes")
        offsets = s.shared.offsets(to(s), s.lanes, 16)
        data = np.zeros((len(sizes), 4), np.uint32)
        valid = sizes != 0
        data[valid] = s.memory.bytes.read(s.memory.offsets(origin(s)[valid], 16), np.uint32, 4)
        s.copies[-1].append((offsets, data))

    return act


def _everyone(s: State, op: str) -> None:
    if s.running is not True:
        raise PtxError(f"{op}: only some threads come to it, which is not supported")


def _commit(statement: Statement) -> Act:
    def act(s: State) -> None:
        _everyone(s, statement.op)
        s.copies.append([])

    return act


def _wait(statement: Statement) -> Act:
    left = int(statement.operands[0])

    def act(s: State) -> None:
        _everyone(s, statement.op)
        # The last group is not committed.
        while len(s.copies) - 1 > left:
            for offsets, data in s.copies.pop(0):
                s.shared.bytes.write(offsets, data)

    return act


_WHOLE: dict[str, Callable[[Statement], Act]] = {
    "ld": _load,
    "st": _store,
    "mma.sync.aligned": _multiply,
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16": _load_matrices,
    "cp.async.cg.shared.global": _copy_async,
    "cp.async.commit_group": _commit,
    "cp.async.wait_group": _wait,
}


@cache
def compile_statement(statement: Statement) -> Act:
    """The action of an instruction. Raises :class:`PtxError` on one that is not supported."""
    op = statement.op
    if statement.guard:
        raise PtxError(f"{op}: a predicate on other than a branch is not supported")
    for start, make in _WHOLE.items():
        if op == start or op.startswith(start + "."):
            return make(statement)
    stem, _, kind = op.rpartition(".")
    if kind not in TYPES:
        raise PtxError(f"{op} is not supported")
    return _of_values(statement, stem, kind)


def _of_values(statement: Statement, stem: str, kind: str) -> Act:
    sources = len(statement.operands) - 1
    if stem == "mov":
        return _move(statement, kind)
    if kind == "f32" and stem in _FLOAT:
        return _plain(_FLOAT[stem], statement, [kind] * sources, kind)
    if statement.op == "cvt.rni.s32.f32":
        return _computed(_nearest, statement, ["f32"], "s32")
    if stem in _PLAIN and kind != "f32":
        return _plain(_PLAIN[stem], statement, [kind] * sources, kind)
    if stem in ("div", "rem"):
        act = _computed(_COMPUTED[stem], statement, [kind] * 2, kind)
        return _divide_checked(act, source(statement.operands[2], kind))
    if stem == "selp":
        return _computed(_COMPUTED[stem], statement, [kind, kind, "pred"], kind)
    if statement.op == "bfi.b32":
        return _computed(_inserted, statement, ["u32"] * 4, "u32")
    if stem in _COMPUTED:
        return _computed(_COMPUTED[stem], statement, [kind] * sources, kind)
    if stem in ("shl", "shr"):
        shift = _shifted_left if stem == "shl" else _shifted_right if kind[0] == "s" else _shifted_right_unsigned
        return _computed(shift, statement, [kind, "u32"], kind)
    if stem == "mul.wide":
        wide = kind[0] + "64"
        return _computed(lambda a, b: np.multiply(a, b, dtype=TYPES[wide]), statement, [kind] * 2, wide)
    if stem.startswith("setp.") and stem[5:] in _COMPARE:
        return _plain(_COMPARE[stem[5:]], statement, [kind] * 2, "pred")
    found = re.fullmatch(r"cvt\.pack\.sat\.([us]4)\.s32", stem)
    if found is not None:
        return _computed(_packed(found[1]), statement, ["s32", "s32", "u32"], "u32")
    found = re.fullmatch(r"cvt(?:\.rn)?\.(\w+)", stem)
    if found is not None and found[1] in TYPES and (found[1] != "f32" or stem == "cvt.rn.f32"):
        return _convert(statement, found[1], kind)
    # Addresses of global memory and of parameters are generic ones as they are.
    if statement.op in ("cvta.to.global.u64", "cvta.param.u64"):
        return _move(statement, "u64")
    raise PtxError(f"{statement.op} is not supported")
