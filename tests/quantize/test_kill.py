"""A run killed at random moments and resumed ends with the weights of one that was left alone, to the last bit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from training_process import INTERRUPTED, received, start

SETTINGS = {"batch": 8, "epochs": 3, "save_every": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    process, pipe = start(tmp_path_factory.mktemp("undisturbed"), "ste", SETTINGS)
    weights = received(process, pipe)
    assert weights is not None
    return weights


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_random_moments(tmp_path: Path, undisturbed: dict[str, torch.Tensor], number: signal.Signals) -> None:
    chance = random.Random(time.time_ns())
    codes: list[int | None] = []
    weights = None
    for attempt in range(8):
        process, pipe = start(tmp_path, "ste", SETTINGS)
        if attempt < 4:
            # After a random number of reports, and then a random part of what a step takes.
            try:
                for _ in range(chance.randint(1, 12)):
                    pipe.recv()
            except EOFError:
                pass
            time.sleep(chance.uniform(0, 0.01))
            if process.is_alive() and process.pid is not None:
                # It may have ended since.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        weights = received(process, pipe)
        codes.append(process.exitcode)
        assert process.exitcode in (0, -signal.SIGKILL if number is signal.SIGKILL else INTERRUPTED)
        if weights is not None:
            break
    assert weights is not None, codes
    different = [name for name, value in undisturbed.items() if not torch.equal(value, weights[name])]
    assert not different, codes
