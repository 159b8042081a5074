"""Print what one extra of pyproject.toml, or ``build`` for its build system, requires: a requirement a line.

Installing ``.[extra]`` would build the package once more; this installs only what the extra adds.
"""

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {**project["project"]["optional-dependencies"], "build": project["build-system"]["requires"]}
    if len(sys.argv) != 2 or sys.argv[1] not in groups:
        sys.exit(f"usage: requirements.py {{{','.join(groups)}}}")
    sys.stdout.write("\n".join(groups[sys.argv[1]]) + "\n")
