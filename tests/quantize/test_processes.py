"""Two gloo processes with half the batch each train the weights that one process does."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from training_process import received, start

Weights = dict[str, torch.Tensor]


def run(folder: Path, count: int, method: str, **settings: object) -> list[Weights]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(count):
        # What torchrun sets.
        several = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}", "MASTER_ADDR": "127.0.0.1"}
        environment = several | {"MASTER_PORT": f"{port}"} if count > 1 else {}
        started.append(start(folder, method, {"batch": 16 // count, **settings}, environment))
    found = [received(process, pipe) for process, pipe in started]
    assert [process.exitcode for process, _ in started] == [0] * count
    return [weights for weights in found if weights is not None]


@pytest.mark.parametrize("method", ["ste", "lsq"])
def test_two_processes_are_one(tmp_path: Path, method: str) -> None:
    first, second = run(tmp_path / "two", 2, method, epochs=2)
    (parts,) = run(tmp_path / "parts", 1, method, epochs=2, accumulate=2)
    for name, value in parts.items():
        assert torch.equal(first[name], second[name]), name
        # Halving is exact, so the mean of two gradients is the sum of two halves, to the last bit.
        assert torch.equal(first[name], value), name
    assert (tmp_path / "two" / "metrics.csv").read_text().count("\n") == 3


@pytest.mark.parametrize("method", ["ste", "lsq"])
def test_two_processes_are_one_with_the_whole_batch(tmp_path: Path, method: str) -> None:
    first, _ = run(tmp_path / "two", 2, method, epochs=1)
    (one,) = run(tmp_path / "one", 1, method, epochs=1)
    for name, value in one.items():
        # Float32 sums in another order; more steps would round single activations to another integer.
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)
