"""The descriptions of a submission: the machine, the network and the program."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nybble
from nybble.bench import machine
from nybble.graph import DType, Graph
from nybble.graph.ops.questions import weighted
from nybble.mlperf.conf import Settings
from nybble.mlperf.layout import DIVISION
from nybble.mlperf.scenarios import BENCHMARK, IMAGENET_PHOTOS

#: Fields of a system description that this machine does not have or does not report.
_ABSENT = (
    "accelerator_frequency",
    "accelerator_host_interconnect",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "accelerator_memory_capacity",
    "accelerator_memory_configuration",
    "accelerator_model_name",
    "accelerator_on-chip_memories",
)
_UNKNOWN = (
    "cooling",
    "host_memory_configuration",
    "host_network_card_count",
    "host_networking",
    "host_networking_topology",
    "host_processor_caches",
    "host_processor_frequency",
    "host_processor_interconnect",
    "host_storage_capacity",
    "host_storage_type",
)
#: A task's settings that a submission may not change: LoadGen's names, and what they are called here.
_FIXED = {
    "qsl_rng_seed": "seeds",
    "sample_index_rng_seed": "seeds",
    "schedule_rng_seed": "seeds",
    "server_target_latency_ns": "latency bound",
    "server_target_latency_percentile": "percentile",
    "single_stream_target_latency_percentile": "percentile",
    "multi_stream_target_latency_percentile": "percentile",
    "multi_stream_samples_per_query": "samples a query",
    "performance_issue_unique": "choice of samples",
    "performance_issue_same": "choice of samples",
    "sample_concatenate_permutation": "choice of samples",
}


def system_name() -> str:
    """A folder name for this machine, from its processor."""
    words = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", " ", machine.describe()["cpu"])
    slug = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:60]
    return f"{slug or 'machine'}-{os.cpu_count()}cpu"


def system_description(name: str, submitter: str, gpu: str | None = None) -> dict[str, Any]:
    """The machine, in the fields that MLPerf's rules ask for; what cannot be asked of it is left to be filled in.

    ``gpu`` is what the network ran on, where that was one.
    """
    about = machine.describe()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "division": DIVISION,
        "submitter": submitter,
        "status": "available",
        "system_type": "edge",
        "system_type_detail": "edge server",
        "system_name": name,
        "number_of_nodes": 1,
        "host_processor_model_name": about["cpu"],
        "host_processors_per_node": 1,
        "host_processor_core_count": os.cpu_count(),
        "host_memory_capacity": f"{memory:.0f} GiB",
        "accelerators_per_node": int(gpu is not None),
        "framework": f"nybble {nybble.__version__}",
        "operating_system": about["system"],
        "other_software_stack": f"Python {about['python']}",
        "hw_notes": f"usable CPUs: {about['usable_cpus']}; instruction sets: {' '.join(about['flags'])}"
        + ("; a virtual machine" if about["hypervisor"] else ""),
        "sw_notes": "",
        **dict.fromkeys(_ABSENT, "N/A" if gpu is None else "not recorded"),
        "accelerator_model_name": "N/A" if gpu is None else gpu,
        **dict.fromkeys(_UNKNOWN, "not recorded"),
    }


def implementation(graphs: Sequence[Graph], name: str) -> dict[str, Any]:
    """The network, or the members of an ensemble, in the fields of a submission's measurements."""
    layers = [layer for graph in graphs for node in graph if (layer := weighted(node)) is not None]
    kinds = sorted({str(layer.weight.dtype) for layer in layers})
    inputs = dict.fromkeys(_types(graph.inputs[0].dtype) for graph in graphs)
    return {
        "input_data_types": ", ".join(inputs),
        "retraining": "see documentation/calibration.md",
        "starting_weights_filename": name,
        "weight_data_types": ", ".join(_types(DType(kind)) for kind in kinds),
        "weight_transformations": "quantized; widened and reordered for the kernels when loaded, values unchanged",
    }


def calibration_note(name: str, card: Path | None) -> str:
    """How the network came to its integers, as far as it tells: its card, where it brings one."""
    text = (
        f"# Quantization of {name}\n\n"
        "The network is an integer network: symmetric weights and activations of the bits that `nybble inspect`\n"
        "lists, sums in integers, requantized by a factor and a shift. A reference interpreter defines every result,\n"
        "and every kernel equals it bit for bit. No scale is computed while it runs.\n"
    )
    if card is None:
        return f"{text}\nThe model folder has no README.md that says on which data it was made: say so here.\n"
    return f"{text}\nIts card:\n\n---\n\n{card.read_text(encoding='utf-8-sig', errors='replace')}"


def shortfalls(settings: Settings, base: Mapping[str, Any], photos: int) -> list[str]:
    """The reasons why such runs are not a submission to the benchmark; empty if none is known."""
    reasons = []
    if photos != IMAGENET_PHOTOS:
        reasons.append(f"{photos} photos instead of the {IMAGENET_PHOTOS} of ImageNet's validation set")
    for setting, what, unit in (
        ("min_duration_ms", "minimum duration", "ms"),
        ("min_query_count", "minimum query count", "queries"),
        ("performance_sample_count_override", "photos in memory", "photos"),
    ):
        if settings[setting] < base[setting]:
            reasons.append(f"{what} of {settings[setting]} {unit} instead of {base[setting]}")
    changed = [what for name, what in _FIXED.items() if name in settings and settings[name] != base[name]]
    reasons += [f"another {what} than the benchmark's" for what in dict.fromkeys(changed)]
    return reasons


def readme(name: str, scenario: str, photos: int, reasons: list[str]) -> str:
    """``README.md`` of the measurements."""
    verdict = f"Not a submission: {'; '.join(reasons)}.\n" if reasons else ""
    return (
        f"# {name}, {BENCHMARK}, {scenario}\n\n{verdict}\n"
        f"Made by `nybble mlperf run`; `run.json` has the model, the {photos} photos and every setting, `user.conf`\n"
        "what LoadGen was told beyond its built-in configuration.\n"
    )


def _types(dtype: DType) -> str:
    return {"s4": "int4", "s8": "int8", "u4": "uint4", "u8": "uint8"}.get(str(dtype), str(dtype))
