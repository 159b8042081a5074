"""The INT8 model of ONNX Runtime, made as its documentation recommends and chosen by measurement.

Pre-processing, then static quantization in QDQ form with per-channel weights, calibrated on real photos. Which types
are fastest depends on the processor, so the candidates are timed on this one; a candidate whose top-1 on the
selection photos falls by more than ``MARGIN`` below the float model's is out (unsigned activations times full-range
signed weights saturate where VNNI is missing).
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from contestant import session_options
from nybble.graph.types import Array

#: How far below the float model's top-1 an INT8 model may be.
MARGIN = 0.03
#: A later candidate must be faster by this part to be preferred: less than that is noise.
ADVANTAGE = 0.05

_U8, _S8 = QuantType.QUInt8, QuantType.QInt8
#: In the order in which the documentation recommends them for x86-64 with VNNI; the last is its choice for ARM.
CANDIDATES: dict[str, dict[str, Any]] = {
    "u8s8": {"activation_type": _U8, "weight_type": _S8},
    "u8s8-reduced-range": {"activation_type": _U8, "weight_type": _S8, "reduce_range": True},
    "u8u8": {"activation_type": _U8, "weight_type": _U8},
    "s8s8": {"activation_type": _S8, "weight_type": _S8},
}


@dataclass(frozen=True)
class Candidate:
    """One way to quantize, how well and how fast it did; ``ops`` counts the nodes that are really executed."""

    name: str
    path: str
    top1: float | None
    images_per_second: float
    ops: dict[str, int]


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, all of them, and the float model's top-1 on the same photos."""

    chosen: Candidate
    candidates: list[Candidate]
    float_top1: float | None

    def save(self, path: Path) -> None:
        """Write as JSON."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2))
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Choice:
        """Read what :meth:`save` wrote."""
        known = json.loads(path.read_text())
        candidates = [Candidate(**entry) for entry in known["candidates"]]
        return cls(Candidate(**known["chosen"]), candidates, known["float_top1"])


def make(
    float_path: Path, folder: Path, calibration: Array, selection: Array, labels: Array | None, threads: int
) -> Choice:
    """Quantize a float model in every way of ``CANDIDATES`` and choose.

    Parameters
    ----------
    float_path : Path
        A float ONNX model of one input.
    folder : Path
        Where the models are put.
    calibration, selection : ndarray
        float32 (N, 3, H, W), normalised: photos to find ranges on, and photos to compare candidates on.
    labels : ndarray or None
        Class of each selection photo; without them only speed decides.
    threads : int

    Returns
    -------
    Choice
    """
    prepared = folder / "float-preprocessed.onnx"
    # Symbolic shapes matter to transformers; for them another package would be needed.
    quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
    sessions: dict[str, onnxruntime.InferenceSession] = {}
    ops: dict[str, dict[str, int]] = {}
    for name, options in CANDIDATES.items():
        path = folder / f"int8-{name}.onnx"
        _quantize(prepared, path, calibration, options)
        sessions[name], ops[name] = _open(path, threads)
    top1 = {name: _top1(session, selection, labels) for name, session in sessions.items()}
    float_session, _ = _open(prepared, threads)
    float_top1 = _top1(float_session, selection, labels)
    speeds = _speeds(sessions, selection[:8])
    candidates = [
        Candidate(name, str(folder / f"int8-{name}.onnx"), top1[name], speeds[name], ops[name]) for name in CANDIDATES
    ]
    return Choice(_choose(candidates, float_top1), candidates, float_top1)


def _choose(candidates: list[Candidate], float_top1: float | None) -> Candidate:
    right = [entry for entry in candidates if entry.top1 is None or entry.top1 >= (float_top1 or 0.0) - MARGIN]
    if not right:
        # A peer that is wrong is no peer, but the best of them is still the fairest one.
        return max(candidates, key=lambda entry: entry.top1 or 0.0)
    chosen = right[0]
    for entry in right[1:]:
        if entry.images_per_second > chosen.images_per_second * (1 + ADVANTAGE):
            chosen = entry
    return chosen


class _Photos(CalibrationDataReader):
    def __init__(self, name: str, photos: Array) -> None:
        self._feeds: Iterator[dict[str, Array]] = ({name: photo[None]} for photo in photos)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def _quantize(source: Path, path: Path, calibration: Array, options: dict[str, Any]) -> None:
    name = onnx.load(str(source)).graph.input[0].name
    logging.getLogger().setLevel(logging.ERROR)
    part = path.with_suffix(".part")
    quantize_static(
        str(source),
        str(part),
        _Photos(name, calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        **options,
    )
    part.replace(path)


def _open(path: Path, threads: int) -> tuple[onnxruntime.InferenceSession, dict[str, int]]:
    """A session, and how often each operator occurs in what the optimizer made of the model."""
    options = session_options(threads)
    optimized = path.with_suffix(".optimized")
    options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ops = Counter(node.op_type for node in onnx.load(str(optimized)).graph.node)
    optimized.unlink()
    return session, dict(ops)


def _top1(session: onnxruntime.InferenceSession, photos: Array, labels: Array | None) -> float | None:
    if labels is None:
        return None
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: photos[at : at + 8]})[0].argmax(axis=1) for at in range(0, len(photos), 8)]
    return float(np.mean(np.concatenate(parts) == labels))


def _speeds(sessions: dict[str, onnxruntime.InferenceSession], photos: Array) -> dict[str, float]:
    """Images per second, the best of calls that take turns."""
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(12):
        for name, session in sessions.items():
            feed = {session.get_inputs()[0].name: photos}
            session.run(None, feed)
            for _ in range(2):
                begun = time.perf_counter()
                session.run(None, feed)
                best[name] = min(best[name], time.perf_counter() - begun)
    return {name: len(photos) / seconds for name, seconds in best.items()}
