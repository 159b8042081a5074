"""Where and with what it was measured."""

from __future__ import annotations

from collections.abc import Iterator

from nybble.bench.machine import BYTE_TILES
from nybble.report.numbers import NARROW
from nybble.report.records import Bench, Machine
from nybble.report.sections.section import Section, table
from nybble.report.source import Material
from nybble.report.submission import Scenario


def machine(material: Material) -> Section | None:
    """Processor, system and versions, as far as the files say them."""
    rows: list[tuple[str, tuple[str, str]]] = []
    for bench in material.benches:
        rows += [(bench.label, fact) for fact in _of_machine(bench.record.machine)]
        rows += [(bench.label, fact) for fact in _of_bench(bench.record)]
    for profile in material.profiles:
        found = profile.record
        text = f"{found.model}, {found.isa}, {found.threads} threads, {'tuned' if found.tuned else 'not tuned'}"
        rows.append((profile.label, ("profile", text)))
    for evaluation in material.evaluations:
        result = evaluation.record
        text = f"{result.model}, {result.isa}, {result.threads} threads, batch {result.batch}"
        rows.append((evaluation.label, ("evaluation", text)))
    for quantization in material.quantizations:
        made = quantization.record
        text = f"{made.source} in {made.bits}; speeds: {made.speed.isa}, {made.speed.threads} threads"
        rows.append((quantization.label, ("quantization", text)))
    described = set()
    for entry in material.scenarios:
        for fact in _of_scenario(entry.record):
            if (entry.label, fact) not in described:
                described.add((entry.label, fact))
                rows.append((entry.label, fact))
    if not rows:
        return None
    return Section(
        "machine",
        "Machine and versions",
        tables=[table("machine", "As the files say", ("what", "is"), rows)],
        open_tables=True,
    )


def _of_machine(about: Machine) -> Iterator[tuple[str, str]]:
    model = f" (family/model/stepping {about.family_model})" if about.family_model else ""
    yield "processor", f"{about.cpu}{model}" + (", in a virtual machine" if about.hypervisor else "")
    if about.usable_cpus is not None:
        yield "usable CPUs", str(about.usable_cpus)
    if about.flags:
        yield "instruction sets", " ".join(about.flags)
    if about.missing_flags:
        yield "not there", " ".join(about.missing_flags)
    if about.byte_tiles:
        yield "AMX", BYTE_TILES
    if about.governor:
        yield "clock governor", about.governor
    if about.system:
        yield "system", about.system
    if about.python:
        yield "Python", about.python
    if about.disturbance is not None:
        others, guests = about.disturbance.other_processes, about.disturbance.other_guests
        yield (
            "taken by others",
            f"{100 * others:.1f}{NARROW}% by processes, {100 * guests:.1f}{NARROW}% by other guests",
        )


def _of_bench(bench: Bench) -> Iterator[tuple[str, str]]:
    if bench.date:
        yield "measured", bench.date
    if bench.network:
        settings = bench.settings
        kept = f", peers kept to {settings.peer_isa}" if settings is not None and settings.peer_isa else ""
        threads = f", {settings.threads} threads" if settings is not None else ""
        yield "benchmark", f"{bench.network} on {bench.photos}, {bench.rounds} rounds{threads}{kept}"
    for name, about in bench.contestants.items():
        told = ", ".join(f"{key} {value}" for key, value in about.items() if isinstance(value, str | bool | int))
        if told:
            yield name, told
    if bench.scaling is not None and bench.scaling.best_batch is not None:
        text = f"{bench.scaling.best_batch:.2f} of what a loop of the same instructions gains"
        yield f"gain of {bench.scaling.threads} threads", text


def _of_scenario(scenario: Scenario) -> Iterator[tuple[str, str]]:
    for field, name in (
        ("host_processor_model_name", "processor"),
        ("host_processor_core_count", "CPUs"),
        ("host_memory_capacity", "memory"),
        ("operating_system", "system"),
        ("framework", "framework"),
        ("other_software_stack", "software"),
    ):
        value = scenario.description.get(field)
        if value:
            yield f"MLPerf: {name}", str(value)
    version = scenario.performance.values.get("loadgen_version") if scenario.performance is not None else None
    if version:
        yield "MLPerf: LoadGen", str(version)
