"""Properties of instruction sets for the benchmark: the processor features that each needs, and the set it extends.

Both are in the native table (``native/CMakeLists.txt``), independent of this machine and of the build, so that a result
from another machine can be read here.
"""

from __future__ import annotations

from nybble import _native


def features(isa: str) -> frozenset[str]:
    """The processor's features that an instruction set needs, by their names in ``/proc/cpuinfo``; none if unknown."""
    return frozenset(_native.isa_needs(isa).split() if isa in _native.all_isas() else ())


def family(isa: str) -> list[str]:
    """An instruction set, the one that it adds to, the one that this adds to, and so on."""
    found = [isa]
    while isa in _native.all_isas() and (isa := _native.isa_like(isa)):
        found.append(isa)
    return found


def has_dot_products(isa: str) -> bool:
    """Whether it multiplies four bytes by four and adds them up in one instruction of x86."""
    return any(feature.endswith("_vnni") for feature in features(isa))


def has_byte_tiles() -> bool:
    """Whether this processor multiplies tiles of bytes (AMX-INT8), and the system lets it."""
    return _native.has_byte_tiles()


def built() -> list[str]:
    """Those in this build, the best last, without those that only tests run."""
    return [isa for isa in _native.built_isas() if not _native.is_for_tests(isa)]


def available() -> list[str]:
    """Those of :func:`built` that this processor executes."""
    return [isa for isa in built() if isa in _native.available_isas()]


def of_peers() -> list[str]:
    """Those that peers can be kept to: of x86, from AVX2 on."""
    return [isa for isa in _native.all_isas() if "avx2" in features(isa) and not _native.is_for_tests(isa)]
