"""The native module by itself: an input is a series of calls; what makes no sense is a ValueError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from fuzz_target import Bytes, Target

from nybble import _native

ISAS = tuple(_native.runnable_isas())
ARENA = 1 << 15
TYPES = ("u8", "s8", "s32", "f32", "u4")
METHODS = tuple({row.name: None for isa in ISAS for row in _native.kernel_rows(isa)})
#: Extents, ids, offsets and bounds that are most likely to be wrong.
NUMBERS = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 31, 32, 33, 48, 64, 66, 127, 128, 255, 256, 512, 1024, 65535, 65536),
    *(65537, 1 << 20, (1 << 31) - 1, -1, -2, -8, -128, -(1 << 31)),
)
#: Specifications, and the method of a program that takes each.
SPECS: Mapping[str, str] = {
    name: "add_" + name.removesuffix("Spec").lower() for name in sorted(vars(_native)) if name.endswith("Spec")
}


def _fields(kind: str) -> list[str]:
    return sorted(name for name in vars(getattr(_native, kind)) if not name.startswith("_"))


FIELDS = {kind: _fields(kind) for kind in SPECS}


def _number(source: Bytes) -> int:
    how = source.number(0, 3)
    return source.pick(NUMBERS) if how < 3 else source.number(-300, 70000)


def _id(source: Bytes) -> int:
    return source.number(-1, 14)


def _rule(source: Bytes) -> Any:
    made = _native.Requantize()
    count = source.pick((33, 33, 1, 66, 0, 4, 32, 64))
    made.factor = [source.number(0, 1 << 16)] * count
    made.shift, made.low, made.high = (
        source.number(-1, 32),
        source.pick((0, -8, -128, 1)),
        source.pick((15, 255, 7, 127)),
    )
    return made


def _value(source: Bytes, name: str, old: Any) -> Any:
    """Something of the kind of a field's value."""
    if isinstance(old, bool):
        return bool(source.number(0, 1))
    if isinstance(old, int):
        return source.pick((_id, _number, _id))(source)
    if isinstance(old, str):
        return source.pick(METHODS)
    if name == "channels":  # Of a MoveSpec: lists of numbers.
        return [[_number(source) for _ in range(source.number(0, 5))]] * source.number(0, 3)
    if isinstance(old, list):
        return [_number(source)] * source.pick((0, 1, 2, 3, 15, 16, 33, 66, 128, 256))
    if isinstance(old, _native.Requantize):
        return _rule(source)
    return old


class Calls(Target):
    """Values, lists and steps of a program, and runs of it."""

    name = "native"

    def seeds(self) -> Mapping[str, bytes]:
        # Any bytes are calls; these are drawn so that each call occurs.
        return {f"{seed}": np.random.default_rng(seed).bytes(96) for seed in range(24)}

    def run(self, data: bytes) -> None:
        source = Bytes(data)
        isa = source.pick(ISAS)
        program = _native.Program(
            isa=isa, threads=source.pick((1, 1, 2)), most_images=source.pick((1, 2, 3)), arena_bytes=ARENA
        )
        # Values to start from: a network's first steps would make them.
        ids = [
            program.add_value("u8", 33, 3, 4, True, 0),
            program.add_value("u8", 33, 3, 4, False, 512),
            program.add_value("s8", 33, 3, 4, False, 1536),
            program.add_value("s32", 33, 3, 4, False, 2560),
            program.add_value("f32", 33, 3, 4, False, 6144),
            program.add_value("u8", 33, 3, 4, False, 9728),
            program.add_value("u8", 66, 3, 4, False, 24576),
        ]
        self._ignore(lambda: program.add_lists(ids[1], source.pick((2, 4, 1, 3)), source.pick((16, 32, 8)), 12288))
        program.set_input(ids[0])
        program.set_outputs([ids[5]])
        for target in (1, 2, 3, 5):
            self._start(program, ids[0], ids[target], source)
        while source:
            call = source.number(0, 9)
            if call == 0:
                sizes = [_number(source) for _ in range(3)]
                kind, padded, offset = source.pick(TYPES), bool(source.number(0, 1)), 64 * source.number(-1, 520)
                self._ignore(lambda: program.add_value(kind, *sizes, padded, offset))  # noqa: B023
            elif call == 1:
                numbers = (_id(source), source.pick((1, 2, 4, 3)), _number(source), 64 * source.number(-1, 520))
                self._ignore(lambda: program.add_lists(*numbers))  # noqa: B023
            elif call == 2:
                self._ignore(lambda: program.set_outputs([_id(source)]))
            else:
                self._step(program, source)
        self._run(program)

    def _start(self, program: Any, entry: int, target: int, source: Bytes) -> None:
        point = _native.PointSpec()
        point.input, point.output, point.requantize = entry, target, True
        made = _native.Requantize()
        made.factor, made.shift, made.low, made.high = [1] * 33, 0, 0, source.pick((15, 127))
        point.rule = made
        self._ignore(lambda: program.add_point(point))

    def _step(self, program: Any, source: Bytes) -> None:
        kind = source.pick(list(SPECS))
        spec = getattr(_native, kind)()
        for name in ("input", "other", "output"):
            if hasattr(spec, name):
                setattr(spec, name, source.number(0, 9))
        for _ in range(source.number(0, 5)):
            name = source.pick(FIELDS[kind])
            self._ignore(lambda: setattr(spec, name, _value(source, name, getattr(spec, name))))  # noqa: B023
        add = getattr(program, SPECS[kind])
        if kind == "ConvSpec":
            kernel = (spec.kernel_h, spec.kernel_w)
            shape = (33, max(1, 33 // max(1, spec.groups)), *(size if 0 < size < 8 else 1 for size in kernel))
            if source.number(0, 7) == 0:
                shape = tuple(source.pick((0, 1, 3, 32, 33, 34, 66)) for _ in range(4))  # type: ignore[assignment]
            weights = np.full(shape, source.pick((1, -8, 7, 127, -128, 0)), np.int8)
            self._ignore(lambda: add(spec, weights))
        else:
            self._ignore(lambda: add(spec))

    def _run(self, program: Any) -> None:
        images = 3
        value = np.random.default_rng(1).integers(0, 256, (images, 33 * 12), dtype=np.uint8)
        for results in (images * 33 * 12, images * 33 * 12 * 4, images * 66 * 12, 1):
            self._ignore(lambda: program.run_integer(value, np.zeros(results, np.uint8)))  # noqa: B023

    @staticmethod
    def _ignore(call: Callable[[], object]) -> None:
        try:
            call()
        except (ValueError, OverflowError):
            return
