"""Metrics of answers on labelled photos, with bootstrap intervals."""

from nybble.tasks.metrics.bootstrap import Interval, Metric, paired_difference, value_with_interval
from nybble.tasks.metrics.detection import DetectionMetric
from nybble.tasks.metrics.restoration import RestorationMetric, psnr
from nybble.tasks.metrics.segmentation import SegmentationMetric
from nybble.tasks.metrics.text import TextMetric

__all__ = [
    "DetectionMetric",
    "Interval",
    "Metric",
    "RestorationMetric",
    "SegmentationMetric",
    "TextMetric",
    "paired_difference",
    "psnr",
    "value_with_interval",
]
