"""Fine-tuning: the loop, its checkpoints and figures, and evaluation."""

from nybble.quantize.train.average import WeightAverage
from nybble.quantize.train.evaluate import Evaluation, agreement, compare, evaluate
from nybble.quantize.train.finetune import TrainingResult, finetune
from nybble.quantize.train.interrupt import TrainingInterrupted
from nybble.quantize.train.outputs import OutputEvaluation, evaluate_outputs

__all__ = [
    "Evaluation",
    "OutputEvaluation",
    "TrainingInterrupted",
    "TrainingResult",
    "WeightAverage",
    "agreement",
    "compare",
    "evaluate",
    "evaluate_outputs",
    "finetune",
]
