"""Pools of every window, padding and map that PyTorch takes: torch, the prepared network and the integers agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import nybble
from nybble.graph import AvgPool2d, MaxPool2d, Padding, Pair
from nybble.quantize import operations
from nybble.quantize.calibrate import calibrate
from nybble.quantize.capture import capture
from nybble.quantize.compare import compare  # noqa: F401
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.convert import convert
from nybble.quantize.float_network import INPUT, AvgPool, Conv, Dense, FloatNetwork, MaxPool, Op, Pad, Rectifier
from nybble.quantize.fold import fold
from nybble.quantize.prepare import prepare, prepare_captured
from nybble.reference import interpret
