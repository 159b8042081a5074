"""A test that is skipped for lack of a tool fails where tools are required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SKIPPING = {
    "module": "import pytest\npytest.importorskip('nothing_of_that_name')\ndef test_it(): pass\n",
    "call": "import pytest\ndef test_it(): pytest.skip('no Chromium here')\n",
    "mark": "import pytest\n@pytest.mark.skipif(True, reason='no C compiler')\ndef test_it(): pass\n",
    "fixture": "import pytest\n@pytest.fixture\ndef tool(): pytest.skip('no tool')\ndef test_it(tool): pass\n",
}
ALLOWED = {
    "processor": "import pytest\ndef test_it(): pytest.skip('avx2 has no quad kernel')\n",
    "bytes": "import pytest, saturation\ndef test_it(): pytest.skip(saturation.REASON)\n",
    "instruction sets": "import pytest\n@pytest.mark.parametrize('isa', [])\ndef test_it(isa): pass\n",
    "root": "import pytest\n@pytest.mark.skipif(True, reason='root may read anything')\ndef test_it(): pass\n",
    "expected": "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n",
}


@pytest.mark.parametrize("required", [False, True])
def test_a_missing_tool_fails_where_it_is_required(tmp_path: Path, required: bool) -> None:
    for name, text in (SKIPPING | ALLOWED).items():
        (tmp_path / f"test_{name.replace(' ', '_')}.py").write_text(text)
    environment = {**os.environ, "NYBBLE_REQUIRE_TOOLS": str(int(required)), "PYTEST_ADDOPTS": ""}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (HERE, HERE / "graph")))
    options = ("-q", "--continue-on-collection-errors", "-p", "required_tools", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *options, tmp_path]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    summary = done.stdout.splitlines()[-1]
    if required:
        # What is skipped before a test runs is an error.
        assert summary.startswith("1 failed, 4 skipped, 1 xfailed, 3 errors in"), done.stdout
        assert done.stdout.count("skipped, which NYBBLE_REQUIRE_TOOLS=1 does not allow for this reason: ") >= 4
    else:
        assert summary.startswith("8 skipped, 1 xfailed in"), done.stdout
