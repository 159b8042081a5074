"""All stages from a SOURCE and photos to a model directory, as ``nybble quantize`` runs them."""

from nybble.quantize.pipeline.lock import locked
from nybble.quantize.pipeline.outcome import Outcome, Stage
from nybble.quantize.pipeline.output import check_free, save
from nybble.quantize.pipeline.run import Finished, quantize
from nybble.quantize.pipeline.settings import PipelineConfig, PreprocessingConfig, distilled

__all__ = [
    "Finished",
    "Outcome",
    "PipelineConfig",
    "PreprocessingConfig",
    "Stage",
    "check_free",
    "distilled",
    "locked",
    "quantize",
    "save",
]
