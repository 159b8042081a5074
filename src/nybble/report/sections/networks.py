"""The layers of networks, as profiles and benchmarks have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nybble.bench.isas import family
from nybble.report.palette import METHODS, OTHER
from nybble.report.records import Bench, Profile
from nybble.report.sections.disturbed import mark
from nybble.report.sections.section import name_of, titled
from nybble.report.source import Material


@dataclass(frozen=True)
class Layer:
    """A step: its kernel's method, or what kind of step it is."""

    name: str
    method: str
    seconds: float
    macs: int
    bytes: int
    gmacs: float | None
    zero_share: float | None


@dataclass(frozen=True)
class Network:
    """The layers of a network as a file has them.

    ``bench`` has the ceilings, where there are any; ``mark`` says that the measurement was disturbed.
    """

    label: str
    title: str
    how: str
    isa: str
    threads: int
    layers: Sequence[Layer]
    bench: Bench | None
    mark: str = ""


def networks(material: Material) -> list[Network]:
    """Those that a profile has, and those that only a benchmark has."""
    found = []
    for profile in material.profiles:
        record = profile.record
        beside = next(
            (bench.record for bench in material.benches if _fits(bench.source, bench.record, profile.source, record)),
            None,
        )
        listed = [
            Layer(
                f"lists of {layer.head}" if layer.kind == "lists" else layer.head,
                layer.kernel.method if layer.kernel is not None else layer.kind,
                layer.seconds,
                layer.macs,
                layer.bytes,
                layer.gmacs,
                layer.zero_share,
            )
            for layer in record.layers
        ]
        how = (
            f"{record.isa} on {threads_text(record.threads)}, {'tuned' if record.tuned else 'not tuned'}, medians of "
            f"{record.runs} runs of each of {record.images} inputs ({name_of(record.inputs)})"
        )
        title = titled(name_of(record.model), profile.label)
        found.append(
            Network(profile.label, title, how, record.isa, record.threads, listed, beside, mark(record.disturbance))
        )
    for bench in material.benches:
        threads = bench.record.settings.threads if bench.record.settings is not None else 0
        if not bench.record.layers or any(network.bench is bench.record for network in found):
            continue
        listed = [
            Layer(
                layer.name,
                layer.method or "other",
                layer.seconds,
                layer.macs,
                layer.bytes,
                layer.gmacs_per_second,
                layer.zero_share,
            )
            for layer in bench.record.layers
        ]
        isa, disturbed = bench.record.layers[0].isa, mark(bench.record.machine.disturbance)
        how = f"{isa} on {threads_text(threads)}, convolutions and linear layers only"
        title = titled(name_of(bench.record.network or "network"), bench.label)
        found.append(Network(bench.label, title, how, isa, threads, listed, bench.record, disturbed))
    return found


def threads_text(number: int) -> str:
    """So many threads, in words."""
    return f"{number} thread{'' if number == 1 else 's'}"


def marks_of(network: Network) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method, those that take most time first."""
    spent = by_method(network)
    ordered = sorted(spent, key=lambda method: -sum(layer.seconds for layer in spent[method]))
    return {method: METHODS.get(method, OTHER) for method in ordered}


def legend_of(marks: Mapping[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Methods with their colour and marker; those that share one are named together."""
    names: dict[tuple[str, str], list[str]] = {}
    for method, look in marks.items():
        names.setdefault(look, []).append(method)
    return [(", ".join(methods), *look) for look, methods in names.items()]


def by_method(network: Network) -> dict[str, list[Layer]]:
    """Layers by their kernel's method, or by what kind of step they are."""
    found: dict[str, list[Layer]] = {}
    for layer in network.layers:
        found.setdefault(layer.method, []).append(layer)
    return found


def _fits(bench_source: str, bench: Bench, source: str, profile: Profile) -> bool:
    """Whether a benchmark's ceilings are those of a profile: of the same folder, instruction set and threads."""
    if bench_source != source or not bench.ceilings:
        return False
    if bench.network is not None and name_of(bench.network) != name_of(profile.model):
        return False
    isas = {ceiling.isa for ceiling in bench.ceilings}
    return bool(isas & set(family(profile.isa))) and profile.threads in {ceiling.threads for ceiling in bench.ceilings}
