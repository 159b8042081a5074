"""From a trained PyTorch network to an integer one: calibrate, fine-tune, convert. Needs ``nybble[quantize]``."""

import sys
from types import ModuleType
from typing import Any

# isort: split
import nybble.quantize.extra  # noqa: F401 (first: without torch it says what to install)

# isort: split
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import ActivationConfig, Bits, LayerConfig, QuantizeConfig
from nybble.quantize.data import Photos, open_photos
from nybble.quantize.data import batches as photo_batches
from nybble.quantize.data import split as split_photos
from nybble.quantize.errors import CaptureError, MissingExtraError, QuantizeError, SourceError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.agreement import Agreement, compare
from nybble.quantize.lower.conversion import ConversionReport
from nybble.quantize.lower.convert import convert
from nybble.quantize.lower.restore import from_graph
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.one_call import quantize
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.ptq.bias import correct_bias
from nybble.quantize.ptq.channels import FittedChannels, fit_channels
from nybble.quantize.ptq.equalize import EqualizationReport, equalize
from nybble.quantize.ptq.mixed import MixedChoice, choose_bits, engine_times, network_timer
from nybble.quantize.ptq.reconstruct import ReconstructionReport, reconstruct
from nybble.quantize.ptq.sensitivity import Sensitivities, sensitivity, top1
from nybble.quantize.settings import CalibrationConfig, MixedConfig, ReconstructionConfig, TrainingConfig
from nybble.quantize.sources.load import load_source, load_weights
from nybble.quantize.train import Evaluation, TrainingInterrupted, TrainingResult, evaluate, finetune

__all__ = [
    "ActivationConfig",
    "Agreement",
    "Bits",
    "CalibrationConfig",
    "CaptureError",
    "ConversionReport",
    "EqualizationReport",
    "Evaluation",
    "FittedChannels",
    "LayerConfig",
    "MissingExtraError",
    "MixedChoice",
    "MixedConfig",
    "Photos",
    "QuantizeConfig",
    "QuantizeError",
    "QuantizedNetwork",
    "ReconstructionConfig",
    "ReconstructionReport",
    "Sensitivities",
    "SourceError",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingResult",
    "calibrate",
    "choose_bits",
    "compare",
    "convert",
    "correct_bias",
    "engine_times",
    "equalize",
    "evaluate",
    "finetune",
    "fit_channels",
    "from_graph",
    "load_source",
    "load_weights",
    "network_timer",
    "open_photos",
    "photo_batches",
    "prepare",
    "quantize",
    "reconstruct",
    "sensitivity",
    "snap_steps",
    "split_photos",
    "top1",
]


class _Package(ModuleType):
    """A package that can be called: ``nybble.quantize(...)`` is :func:`quantize`."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        return quantize(*given, **options)


sys.modules[__name__].__class__ = _Package
