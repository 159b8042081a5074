"""Names of the JSON documents that commands write, in their field ``schema``: what it is, and its version.

A field that is added leaves the version as it is; one that goes, or means something else, raises it.
"""

from __future__ import annotations

BENCH = "nybble-bench/1"
EVALUATE = "nybble-evaluate/1"
EVALUATE_TASK = "nybble-evaluate-task/1"
PROFILE = "nybble-profile/1"
CALIBRATION = "nybble-calibration/1"
QUANTIZE = "nybble-quantize/1"
ENSEMBLE = "nybble-ensemble-calibration/1"
