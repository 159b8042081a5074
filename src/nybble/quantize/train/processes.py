"""Several processes under ``torchrun``, or one: the same calls for both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from nybble.quantize.calibrate.observers import HistogramObserver


@dataclass(frozen=True)
class Processes:
    """The place of the process among all."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Add up the numbers of all processes."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        summed: list[float] = total.tolist()
        return summed

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.count == 1 else self.sum([float(flag)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        distributed.all_gather_object(gathered, value)
        return gathered

    def merge(self, observers: dict[str, HistogramObserver]) -> None:
        """Give every process the histograms of all; exact, so all processes get the same."""
        if self.count == 1:
            return
        states = self.gather({name: observer.state_dict() for name, observer in observers.items()})
        for rank, theirs in enumerate(states):
            if rank == self.rank:
                continue
            for name, observer in observers.items():
                other = HistogramObserver(name, signed=observer.signed, bins=observer.bins)
                other.load_state_dict(theirs[name])
                observer.merge(other)

    def wait(self) -> None:
        """Wait for all."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined(device: str | torch.device | None = None) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, if it did; leave them afterwards if they were joined here.

    With GPUs each process takes the one of its ``LOCAL_RANK`` and talks NCCL, otherwise gloo.
    """
    started = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if device is None:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    mine = started and distributed.is_available() and not distributed.is_initialized()
    if mine:
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        if distributed.is_available() and distributed.is_initialized():
            yield Processes(distributed.get_rank(), distributed.get_world_size(), place)
        else:
            yield Processes(0, 1, place)
    finally:
        if mine:
            distributed.destroy_process_group()
