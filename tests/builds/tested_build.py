"""Tests on a build of the package that lies in a folder of its own, not on the one of the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

#: The build that is tested.
SITE = Path(os.environ["NYBBLE_BUILD"]).resolve()


def use() -> Path:
    """Import the package from :data:`SITE`; returns its native part, of which it makes sure that it lies there."""
    # The editable install of the environment puts an import hook before the search path.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
    sys.path.insert(0, str(SITE))
    from nybble import _native

    binary = Path(_native.__file__).resolve()
    if not binary.is_relative_to(SITE):
        pytest.exit(f"the tests would run on {binary}, not on the build in {SITE}", returncode=3)
    return binary
