"""Runs a bundle on a device: single instructions, every kernel, the network, speed. Needs no compiled part."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nybble.backends.cuda.device import Device, Launch
from nybble.backends.cuda.gpus import gpu_named
from nybble.backends.cuda.proof.bundle import Bundle
from nybble.backends.cuda.proof.probe import probe
from nybble.backends.cuda.proof.program import Check, Program, digest
from nybble.backends.cuda.recording import Recorded
from nybble.backends.cuda.roofline import share
from nybble.backends.cuda.structures import PARAMS
from nybble.graph.types import Array

#: Untimed runs, and the minimum number and seconds of timed runs, at each batch size.
WARM_UP, RUNS, SECONDS = 3, 10, 2.0


class Loaded:
    """A program that is loaded into the device's memory.

    Attributes
    ----------
    steps : list of tuple
        Each check and its launches.
    """

    def __init__(self, program: Program, bundle: Bundle, device: Device) -> None:
        self.program, self._device = program, device
        self._addresses = [device.allocate(nbytes) for nbytes in program.blocks]
        for block, name in program.contents.items():
            device.write(self._addresses[int(block)], bundle.arrays[name])
        data = np.resize(bundle.arrays[program.input], program.blocks[program.source])
        device.write(self._addresses[program.source], data)
        launches = [self._launch(one) for one in program.launches]
        self.steps: list[tuple[Check, list[Launch]]] = []
        for check in program.checks:
            self.steps.append((check, launches[: check.launches]))
            launches = launches[check.launches :]

    @property
    def launches(self) -> list[Launch]:
        """The launches of all steps."""
        return [launch for _, launches in self.steps for launch in launches]

    def value(self, check: Check) -> Array:
        """The value that a step wrote, (N, ...) in the graph's order."""
        stored = check.stored
        data = np.empty(stored.nbytes * self.program.images, np.uint8)
        self._device.read(self._addresses[check.block] + check.offset, data)
        return stored.decode(data, self.program.images)

    def release(self) -> None:
        """Free the memory."""
        for address in self._addresses:
            self._device.release(address)

    def _launch(self, recorded: Recorded) -> Launch:
        params = bytearray(recorded.params)
        for at, block, offset in recorded.pointers:
            params[at : at + 8] = (self._addresses[block] + offset).to_bytes(8, "little")
        structure = next(found for start, found in PARAMS.items() if recorded.kernel.startswith(start))
        return Launch(recorded.kernel, recorded.grid, structure.from_buffer(params))


@dataclass
class Proof:
    """A test of a device with a bundle.

    Attributes
    ----------
    device : Device
    bundle : Bundle
    seconds : float
        Time limit: no new program is begun after it.
    say : callable
        Receives the messages, line by line.
    """

    device: Device
    bundle: Bundle
    seconds: float = 400.0
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self._begun = time.monotonic()

    def run(self, parts: tuple[str, ...]) -> dict[str, Any]:
        """Run some of the parts ``probe``, ``cases``, ``network`` and ``speed``. The result is for JSON.

        ``right`` says whether everything that ran was correct. ``skipped`` lists what there was no time for.
        """
        found: dict[str, Any] = {"device": self.device.name, "bundle": dict(self.bundle.about), "skipped": []}
        if "probe" in parts:
            found["probe"] = probe(self.device)
            for name, state in found["probe"].items():
                self.say(f"{name}: {state}")
        for part in ("cases", "network"):
            if part in parts:
                found[part] = [record for one in self._in_time(part, found) for record in self._checked(one)]
                wrong = sum(not record["right"] for record in found[part])
                self.say(f"{part}: {len(found[part]) - wrong} of {len(found[part])} values are right")
        if "speed" in parts:
            found["speed"] = [self._speed(one) for one in self._in_time("speed", found)]
        checks = [*found.get("cases", ()), *found.get("network", ()), *found.get("speed", ())]
        found["right"] = all(record["right"] for record in checks) and all(
            state == "right" for state in found.get("probe", {}).values()
        )
        found["seconds"] = round(time.monotonic() - self._begun, 1)
        return found

    def _in_time(self, part: str, found: dict[str, Any]) -> Iterator[Program]:
        for program in self.bundle.programs[part]:
            if time.monotonic() - self._begun > self.seconds:
                found["skipped"].append(f"{part}: {program.name}")
                continue
            yield program

    @contextmanager
    def _loaded(self, program: Program) -> Iterator[Loaded]:
        loaded = Loaded(program, self.bundle, self.device)
        try:
            yield loaded
        finally:
            loaded.release()

    def _checked(self, program: Program) -> list[dict[str, Any]]:
        """Runs step by step, since values share memory."""
        records = []
        with self._loaded(program) as loaded:
            for check, launches in loaded.steps:
                for launch in launches:
                    self.device.launch(launch)
                records.append(self._record(program, check, loaded.value(check)))
        return records

    def _record(self, program: Program, check: Check, value: Array) -> dict[str, Any]:
        right = digest(value) == check.digest
        record: dict[str, Any] = {"program": program.name, "value": check.name, "kernel": check.kernel, "right": right}
        if not right:
            record["difference"] = self._difference(check, value)
            self.say(f"{program.name}, {check.name} ({check.kernel}): {record['difference']}")
        return record

    def _difference(self, check: Check, value: Array) -> str:
        if not check.first:
            return "differs from the reference"
        expected = self.bundle.arrays[check.first].view(value.dtype).reshape(value[:1].shape)
        wrong = np.argwhere(expected[0] != value[0])
        if not len(wrong):
            return "the first image is correct, another one differs"
        place = tuple(map(int, wrong[0]))
        return (
            f"{len(wrong)} of {value[0].size} elements of the first image differ; at {place}: expected "
            f"{expected[0][place]}, got {value[0][place]}"
        )

    def _speed(self, program: Program) -> dict[str, Any]:
        """Images per second with a graph of all launches and the input on the device, and the time of each step."""
        with self._loaded(program) as loaded:
            # The driver loads a kernel at its first launch, which it may not do during a capture.
            for launch in loaded.launches:
                self.device.launch(launch)
            captured = self.device.capture(loaded.launches)
            nanoseconds: list[int] = []
            begun = time.monotonic()
            for run in range(WARM_UP + 100_000):
                first = self.device.event()
                self.device.replay(captured)
                taken = self.device.nanoseconds(first, self.device.event())
                if run >= WARM_UP:
                    nanoseconds.append(taken)
                if len(nanoseconds) >= RUNS and time.monotonic() - begun > SECONDS:
                    break
            right = digest(loaded.value(program.checks[-1])) == program.checks[-1].digest
            steps = self._steps(loaded)
        seconds = statistics.median(nanoseconds) / 1e9
        speed = program.images / seconds if seconds else 0.0
        gpu = gpu_named(self.device.model)
        reached = None
        if gpu is not None and seconds:
            reached = share(gpu, (one.demand for one in program.checks), program.images, seconds)
        self.say(
            f"{program.name}: {speed:.0f} images/s, {1e3 * seconds:.3f} ms"
            + (f", {reached:.0%} of the roofline" if reached is not None else ", roofline unknown for this GPU")
        )
        quartiles = [value / 1e9 for value in np.percentile(nanoseconds, (25, 75))]
        return {
            "program": program.name,
            "images": program.images,
            "runs": len(nanoseconds),
            "seconds": seconds,
            "quartiles": quartiles,
            "images_per_second": speed,
            "share_of_roofline": reached,
            "right": right,
            "steps": steps,
        }

    def _steps(self, loaded: Loaded) -> list[dict[str, Any]]:
        """Kernel and median time of each step, launched one by one."""
        times: list[list[int]] = []
        for _ in range(5):
            events = [self.device.event()]
            for _, launches in loaded.steps:
                for launch in launches:
                    self.device.launch(launch)
                events.append(self.device.event())
            times.append([self.device.nanoseconds(*pair) for pair in pairwise(events)])
        medians = [statistics.median(column) / 1e9 for column in zip(*times, strict=True)]
        return [
            {"value": check.name, "kernel": check.kernel, "seconds": seconds}
            for (check, _), seconds in zip(loaded.steps, medians, strict=True)
        ]
