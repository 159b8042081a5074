"""INT8 models of the float one, made as the peers' documentation recommends.

ONNX Runtime: pre-processing, then static quantization in QDQ form with per-channel weights, calibrated on real photos.
OpenVINO: the same models, which it reads and runs in INT8, and those of NNCF, its own tool, where that is installed.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from nybble.graph.types import Array

_U8, _S8 = QuantType.QUInt8, QuantType.QInt8
#: In the order in which the documentation recommends them for x86-64 with VNNI; the last is its choice for ARM.
#: Unsigned activations times full-range signed weights saturate where VNNI is missing.
QDQ: dict[str, dict[str, Any]] = {
    "u8s8": {"activation_type": _U8, "weight_type": _S8},
    "u8s8-reduced-range": {"activation_type": _U8, "weight_type": _S8, "reduce_range": True},
    "u8u8": {"activation_type": _U8, "weight_type": _U8},
    "s8s8": {"activation_type": _S8, "weight_type": _S8},
}


def make_qdq(float_path: Path, folder: Path, calibration: Array) -> dict[str, Path]:
    """Every model of ``QDQ``; one that is there already is kept.

    Parameters
    ----------
    float_path : Path
        ONNX.
    folder : Path
    calibration : array
        float32 (N, C, H, W), normalised.

    Returns
    -------
    dict
        Path by name.
    """
    made = {name: folder / f"int8-{name}.onnx" for name in QDQ}
    missing = [name for name, path in made.items() if not path.is_file()]
    if not missing:
        return made
    prepared = folder / "float-prepared.onnx"
    # Symbolic shape inference is for transformers; for them another package would be needed.
    quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
    entry = onnx.load(str(prepared)).graph.input[0].name
    for name in missing:
        part = made[name].with_suffix(".part")
        with _quiet():
            quantize_static(
                str(prepared),
                str(part),
                _Photos(entry, calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                **QDQ[name],
            )
        part.replace(made[name])
    return made


def make_nncf(float_path: Path, folder: Path, calibration: Array) -> dict[str, Path]:
    """What ``nncf.quantize`` makes by default, and with its remedy for processors whose products saturate.

    Arguments as for :func:`make_qdq`; an empty dict where NNCF is not installed.
    """
    if find_spec("nncf") is None or find_spec("openvino") is None:
        return {}
    made = {name: folder / f"int8-{name}.xml" for name in ("nncf", "nncf-overflow-fix")}
    missing = [name for name, path in made.items() if not path.is_file()]
    if not missing:
        return made
    with _quiet():
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        nncf.set_log_level(logging.ERROR)
        for name in missing:
            model = openvino.Core().read_model(str(float_path))
            entry = model.inputs[0].get_any_name()
            advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE)
            photos = nncf.Dataset([{entry: photo[None]} for photo in calibration])
            quantized = nncf.quantize(
                model,
                photos,
                subset_size=len(calibration),
                advanced_parameters=advanced if name.endswith("fix") else None,
            )
            # Weights (.bin) first complete under other names; the .xml, which is looked for, comes last.
            openvino.save_model(quantized, str(folder / f"part-{name}.xml"), compress_to_fp16=False)
            (folder / f"part-{name}.bin").replace(made[name].with_suffix(".bin"))
            (folder / f"part-{name}.xml").replace(made[name])
    return made


class _Photos(CalibrationDataReader):
    def __init__(self, name: str, photos: Array) -> None:
        self._feeds: Iterator[dict[str, Array]] = ({name: photo[None]} for photo in photos)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both tools talk on standard output and in the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
