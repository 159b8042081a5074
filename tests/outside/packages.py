"""Another package that declares entry points, installed for one subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OUTSIDE = Path(__file__).parent


def run_with_entry_points(folder: Path, groups: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where ``folder`` holds a package with an entry point a group; the modules lie in this folder."""
    about = folder / "outside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "".join(f"[{group}]\noutside = {value}\n" for group, value in groups.items())
    )
    paths = (str(folder), str(OUTSIDE), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
