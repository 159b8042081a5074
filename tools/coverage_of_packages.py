"""Lines of each package that the tests ran, from the data of coverage.py: ``coverage_of_packages.py``.

Reads what ``coverage combine`` has left, where pyproject.toml says.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path


def main() -> None:
    """Print a line for each package, and one for all."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", file], check=True)
        files = json.loads(file.read_text())["files"]
    lines: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for name, found in files.items():
        parts = Path(name).parts
        inside = parts[parts.index("nybble") :]
        package = ".".join(inside[:2]) if len(inside) > 2 else inside[0]
        for key in (package, "all"):
            lines[key] += found["summary"]["num_statements"]
            covered[key] += found["summary"]["covered_lines"]
    print("lines of Python that the tests ran")
    for key in sorted(lines, key=lambda key: (key == "all", key)):
        print(f"  {key:20} {100 * covered[key] / max(1, lines[key]):5.1f} % of {lines[key]}")


if __name__ == "__main__":
    main()
