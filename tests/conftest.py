"""What every test shares: the development data and the amount of random testing."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from required_tools import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]

pytest_plugins = ["row_record"]

REPOSITORY = Path(__file__).resolve().parent.parent

# Deadlines measure the machine's other load, not the code.
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
# Sanitized code runs several times slower, and its checks need inputs, not repetition.
hypothesis.settings.register_profile("sanitize", max_examples=10, deadline=None, derandomize=True)
# Emulated code runs many times slower.
hypothesis.settings.register_profile("emulated", max_examples=5, deadline=None, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("NYBBLE_HYPOTHESIS") or ("ci" if os.environ.get("CI") else "quick"))


# Whether models/efficientnet-lite0 has its network yet. Once it has, tests that need it may not be skipped: set True.
NETWORK_IN_THE_BOX = True

# What this machine's user has tuned takes no part; tests of tuned choices turn them on.
os.environ["NYBBLE_TUNED"] = "0"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data (photos, reference networks) that lies outside the repository.

    It is ``../shared/data`` next to the checkout, or the folder named by the environment variable
    ``NYBBLE_SHARED_DATA``. Where it is absent the test is skipped, unless ``NYBBLE_REQUIRE_DATA=1``, as in
    continuous integration, makes its absence a failure.

    Returns
    -------
    Path
        An existing folder.
    """
    named = os.environ.get("NYBBLE_SHARED_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if folder.is_dir():
        return folder.resolve()
    message = f"development data not found at {folder}; set NYBBLE_SHARED_DATA to the folder that holds it"
    if os.environ.get("NYBBLE_REQUIRE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def network_in_the_box() -> Path:
    """The folder ``models/efficientnet-lite0`` of the checkout, with its network in it.

    Where the network is not there yet the test is skipped, unless ``NETWORK_IN_THE_BOX`` says that it must be.
    """
    folder = REPOSITORY / "models" / "efficientnet-lite0"
    if (folder / "model" / "model").is_file():
        return folder
    message = f"{folder / 'model'} is not there yet"
    if NETWORK_IN_THE_BOX:
        pytest.fail(message)
    pytest.skip(message)
