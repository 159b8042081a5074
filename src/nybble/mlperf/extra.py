"""LoadGen, which comes with ``nybble[mlperf]`` and is needed by runs only: logs are read and checked without it."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from nybble.mlperf.errors import MlperfError

_MODULE = "mlperf_loadgen"


def is_there() -> bool:
    """Whether LoadGen is installed."""
    return importlib.util.find_spec(_MODULE) is not None


def loadgen() -> Any:
    """LoadGen's module. Raises :class:`MlperfError`, which says what to install, where it is missing."""
    if not is_there():
        raise MlperfError("an MLPerf run needs LoadGen: pip install 'nybble[mlperf]'")
    return importlib.import_module(_MODULE)
