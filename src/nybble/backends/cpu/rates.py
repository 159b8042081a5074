"""What processors do in a cycle, as far as untuned kernels depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from nybble import _native

#: Zen 5, and its models whose vector units are 32 bytes wide (Strix Point, Krackan Point).
_ZEN5_FAMILY = 26
_NARROW_ZEN5 = (range(0x20, 0x30), range(0x60, 0x70))


@dataclass(frozen=True)
class Rates:
    """Of dot products of 64 bytes; measured in docs/log/performance.md.

    ``beats_pairs``: dense dot products do twice the products per cycle that lists of pairs do.
    ``has_ports_for_sums``: sums of bytes cost dot products nothing, so that the fast inner product does up to twice the
    work of one.
    ``is_doubled``: two dot products per cycle beside such sums, which leaves lists less to win.
    """

    beats_pairs: bool = False
    has_ports_for_sums: bool = False
    is_doubled: bool = False


def rates(isa: str) -> Rates:
    """Of an instruction set on this processor.

    Intel: products and sums share two ports. Zen 4: sums have ports of their own, a dot product of 64 bytes takes two
    cycles on either of two others. Zen 5: one cycle. In shorter vectors neither is true of any.
    """
    if isa != "avx512vnni":
        return Rates()
    vendor, family, model = _native.processor()
    if vendor == "GenuineIntel":
        return Rates(beats_pairs=True)
    is_doubled = family == _ZEN5_FAMILY and not any(model in models for models in _NARROW_ZEN5)
    return Rates(has_ports_for_sums=True, is_doubled=is_doubled)
