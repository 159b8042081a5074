"""Documents as nybble's commands write them, with figures that no rounding hides and names that are markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EVIL = "<script>alert('x')</script> & $x_1$ \"q\""


def write(folder: Path, **documents: Any) -> Path:
    """Write each as NAME.json; underscores of a name are folders."""
    for name, document in documents.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")
    return folder


def run(contestant: str, bits: int, batch: int, speed: float, **changes: Any) -> dict[str, Any]:
    return {
        "contestant": contestant,
        "engine": contestant.split()[0],
        "bits": bits,
        "mode": "throughput" if "throughput" in contestant else "latency",
        "activations": "dense" if "dense" in contestant else "real",
        "isa": None,
        "threads": 2,
        "batch": batch,
        "images_per_second": speed,
        "images_per_second_spread": {
            "quartiles": [speed * 0.97, speed * 1.021],
            "extremes": [speed * 0.9, speed * 1.11],
            "rounds": [speed] * 5,
        },
        "latency": {"p50": batch / speed, "p90": batch * 1.1003 / speed, "p99": batch * 1.3007 / speed},
        "peak_rss_bytes": 52_300_123 * bits // 4 + batch,
        "top1": 0.875 if bits < 32 else 0.890625,
        "wrong": False,
        **changes,
    }


def ratio(value: float) -> dict[str, Any]:
    spread = {
        "quartiles": [value * 0.98, value * 1.017],
        "extremes": [value * 0.9, value * 1.2],
        "of": {"contestant": "nybble 4-bit", "batch": 8},
        "to": {"contestant": EVIL, "batch": 8},
    }
    return {"best_batch": value, "batch_1": value * 0.9, "best_batch_spread": spread, "batch_1_spread": spread}


def bench(**changes: Any) -> dict[str, Any]:
    """Two contestants of nybble, one dense, and a peer, at two batch sizes; ceilings and layers."""
    runs = []
    for batch in (1, 8):
        runs += [
            run("nybble 4-bit", 4, batch, 93.4837 + batch),
            run("nybble 8-bit", 8, batch, 52.6119 + batch),
            run("nybble 4-bit, dense", 4, batch, 67.117 + batch, top1=None),
            run("onnxruntime FP32", 32, batch, 22.713 + batch),
            run("onnxruntime FP32, throughput", 32, batch, 24.9 + batch),
            run(f"onnxruntime {EVIL}", 8, batch, 41.6 + batch, top1=0.5, wrong=True),
        ]
    ceilings = [
        {"name": name, "isa": "avx2", "threads": threads, "unit": unit, "best": rate * threads, "median": rate}
        for name, unit, rate in (
            ("vpmaddubsw+vpaddw, registers", "GMAC/s", 91.3),
            ("vpmaddubsw+vpaddw, L1", "GMAC/s", 90.1),
            ("vpmaddubsw+vpmaddwd+vpaddd, L1", "GMAC/s", 47.7),
            ("vpmaddwd+vpaddd, L1", "GMAC/s", 30.2),
            ("read, L2", "GB/s", 60.9),
            ("read, DRAM", "GB/s", 8.25),
        )
        for threads in (1, 2)
    ]
    layers = [
        {
            "name": f"layer{place}",
            "method": method,
            "isa": "avx2",
            "seconds": 1e-4 * (place + 1),
            "macs": 10_000_000,
            "gmacs_per_second": 0.01 / (1e-4 * (place + 1)),
            "zero_share": 0.61 if place else None,
            "bytes": 100_000 + 50_000 * place,
        }
        for place, method in enumerate(("sparse", "quad", "winograd", "direct"))
    ]
    return {
        "schema": "nybble-bench/1",
        "date": "2026-11-26T07:00:00+00:00",
        "machine": {
            "cpu": f"A processor {EVIL}",
            "family_model": "6/167/1",
            "flags": ["avx2"],
            "missing_flags": ["avx512_vnni"],
            "hypervisor": True,
            "usable_cpus": 2,
            "governor": None,
            "load_average": [0.1, 0.2, 0.3],
            "system": "Linux 6",
            "python": "3.11.7",
            "disturbance": {"other_processes": 0.31, "other_guests": 0.001},
        },
        "network": EVIL,
        "photos": "64 photos of a folder",
        "photo_count": 64,
        "calibration": "other photos",
        "settings": {"threads": 2, "isa": None, "peer_isa": "avx2", "seconds": 2.0},
        "rounds": 5,
        "photos_per_turn": 32,
        "contestants": {"nybble 4-bit": {"isa": "avx2", "tuned": True, "load_seconds": 0.5}},
        "runs": runs,
        "ratios": {
            "int4_vs_best_int8_peer": ratio(1.9371),
            "int4_vs_int8": ratio(1.8113),
            "int4_vs_best_fp32": NOTHING,
        },
        "scaling": {"threads": 2, "batch_1": 0.98, "best_batch": 1.02},
        "ceilings": ceilings,
        "layers": layers,
        **changes,
    }


NOTHING = {"best_batch": None, "batch_1": None}


def evaluation(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "nybble-evaluate/1",
        "model": "efficientnet-lite0",
        "folder": "some/photos-500",
        "images": 500,
        "top1": 443 / 500,
        "top1_right": 443,
        "top1_interval": [0.85, 0.91],
        "top5": 0.978,
        "top5_right": 489,
        "top5_interval": [0.96, 0.99],
        "images_per_second": 321.125,
        "images_per_second_with_decoding": 99.5,
        "batch": 8,
        "threads": 2,
        "isa": "avx2",
        **changes,
    }


def profile(**changes: Any) -> dict[str, Any]:
    steps = (("conv1", "conv", "quad"), ("lists1", "lists", None), ("conv2", "conv", "sparse"), ("pool", "pool", None))
    layers = [
        {
            "name": f"{name}_out",
            "head": name,
            "kind": kind,
            "kernel": method
            and {"method": method, "block_outputs": 64, "tile_pixels": 8, "visit_bytes": 24576, "list_block": 0},
            "seconds": 1.0625e-4 * (place + 1),
            "macs": 4_000_000 if method else 0,
            "bytes": 77_777 if method else 0,
            "gmacs": 4e-3 / (1.0625e-4 * (place + 1)) if method else None,
            "zero_share": 0.333,
            "zero_pair_share": None,
            "share": 0.25,
        }
        for place, (name, kind, method) in enumerate(steps)
    ]
    return {
        "schema": "nybble-profile/1",
        "model": "efficientnet-lite0",
        "inputs": "noise",
        "isa": "avx2",
        "threads": 2,
        "tuned": False,
        "images": 4,
        "runs": 5,
        "seconds": 1.0625e-3,
        "run_seconds": 1.2e-3,
        "macs": 8_000_000,
        "gmacs": 7.5,
        "layers": layers,
        **changes,
    }


def calibration(**changes: Any) -> dict[str, Any]:
    tensors = {
        f"{EVIL} relu": tensor("u4", 0.0, 6.25, 0.41, [9, 1000, 31, 0, 1, 2, 0, 0]),
        "add": tensor("s4", -3.5, 2.75, 0.0, [1, 7, 90, 800, 700, 95, 3, 0], start=-4.0),
        "never": tensor("u4", 0.0, 0.0, 1.0, [0] * 8, width=0.0),
    }
    return {
        "schema": "nybble-calibration/1",
        "config": {"method": "percentile", "percentile": 99.999, "bins": 8},
        "images": 256,
        "seconds": 12.5,
        "tensors": tensors,
        **changes,
    }


def ensemble(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "nybble-ensemble-calibration/1",
        "kind": "cascade",
        "images": 200,
        "folds": 5,
        "photos": f"{EVIL} photos",
        "measure": "margin",
        "members": [
            {"model": f"{EVIL} small", "temperature": 0.58, "top1_right": 170, "seconds": 0.002},
            {"model": "large", "temperature": 0.76, "top1_right": 180, "seconds": 0.009},
        ],
        "mean": {"top1_right": 186, "seconds": 0.011},
        "points": [
            {"share": 0.1, "deferred": 20, "top1_right": 178, "seconds": 0.0029},
            {"share": 0.2, "deferred": 41, "top1_right": 183, "seconds": 0.0038},
        ],
        "chosen": {"share": 0.16, "deferred": 33, "top1_right": 182, "seconds": 0.0035},
        "top1_right": 182,
        "against_best": {
            "model": "large",
            "difference": 0.01,
            "interval": [-0.02, 0.04],
            "best_only": 4,
            "ensemble_only": 6,
            "p_value": 0.75,
        },
        "threads": 2,
        **changes,
    }


def tensor(
    dtype: str, low: float, high: float, zeros: float, counts: list[int], start: float = 0.0, width: float = 1.0
) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "values": sum(counts),
        "minimum": low,
        "maximum": high,
        "zeros": zeros,
        "range": max(high, -low) * 0.9,
        "clipped": 0.000123,
        "histogram": {"start": start, "width": width, "counts": counts},
    }


def quantization(**changes: Any) -> dict[str, Any]:
    def stage(name: str, right: int, against: dict[str, Any] | None, size: int | None) -> dict[str, Any]:
        return {
            "name": name,
            "images": 500,
            "top1": right / 500,
            "top1_right": right,
            "top5_right": right + 30,
            "against_float": against,
            "bytes": size,
            "images_per_second": None,
        }

    against = {"difference": -0.01, "interval": [-0.03, 0.0101], "float_only": 15, "this_only": 10, "p_value": 0.4244}
    return {
        "schema": "nybble-quantize/1",
        "source": "torchvision:resnet18",
        "out": "resnet18-int4",
        "bits": "w4a4",
        "stages": [stage("float", 448, None, 46_800_000), stage("integer engine", 443, against, 6_123_456)],
        "kept": "fine-tuned",
        "speed": {"threads": 2, "batch": 8, "isa": "avx2"},
        **changes,
    }


def write_submission(out: Path, scenario: str = "Offline", *, valid: bool = True, good: int = 443) -> Path:
    """The tree of ``nybble mlperf run`` with one scenario."""
    base = out / "open" / "nybble"
    results = base / "results" / "a-system" / "resnet50" / scenario
    (results / "performance" / "run_1").mkdir(parents=True)
    values: dict[str, Any] = {
        "effective_scenario": scenario,
        "effective_test_mode": "PerformanceOnly",
        "loadgen_version": "6.0.17",
        "result_validity": "VALID" if valid else "INVALID",
        "result_samples_per_second": 118.203125,
        "result_completed_samples_per_sec": 61.5,
        "early_stopping_latency_ss": 9_910_000,
        "early_stopping_latency_ms": 97_650_000,
        "effective_min_duration_ms": 600_000,
        "effective_target_qps": 100,
        "result_min_duration_met": valid,
    }
    tail = "per_query_latency_ns" if scenario == "MultiStream" else "latency_ns"
    for percentile, milliseconds in (("50.00", 9.0), ("90.00", 9.7), ("95.00", 10.0), ("99.00", 10.8), ("99.90", 12.1)):
        values[f"result_{percentile}_percentile_{tail}"] = int(milliseconds * 1e6)
    lines = [f":::MLLOG {json.dumps({'key': key, 'value': value})}" for key, value in values.items()]
    (results / "performance" / "run_1" / "mlperf_log_detail.txt").write_text("\n".join(lines) + "\n")
    (results / "accuracy").mkdir()
    (results / "accuracy" / "accuracy.txt").write_text(f"accuracy=88.6%, good={good}, total=500\nhash=0\n")
    measurements = base / "measurements" / "a-system" / "resnet50" / scenario
    write(
        measurements,
        run={
            "nybble": "0.1.0",
            "photos": 500,
            "request": {"name": "efficientnet-lite0", "images": "some/photos-500", "mode": "submission"},
            "shortfalls": ["500 photos instead of the 50000 of ImageNet's validation set"],
            "runs": {"performance": {"isa": "avx2", "threads": 2, "batch": 8, "tuned": False, "settings": {}}},
        },
    )
    write(base / "systems", **{"a-system": {"host_processor_model_name": "A processor", "framework": "nybble 0.1.0"}})
    return out
