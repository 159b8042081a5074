"""Names of the JSON documents that commands write, in their field ``schema``: what it is, and its version.

Adding a field keeps the version. Removing a field, or changing its meaning, increases it.
"""

from __future__ import annotations

BENCH = "nybble-bench/1"
EVALUATE = "nybble-evaluate/1"
EVALUATE_TASK = "nybble-evaluate-task/1"
PROFILE = "nybble-profile/1"
CALIBRATION = "nybble-calibration/1"
QUANTIZE = "nybble-quantize/1"
ENSEMBLE = "nybble-ensemble-calibration/1"
