"""One process of a training run: killed by :mod:`test_kill`, one of two in :mod:`test_processes`."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from tiny_networks import PREPROCESSING, network, stripes

from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.data import batches
from nybble.quantize.settings import AugmentationConfig, CalibrationConfig, TrainingConfig
from nybble.quantize.train import TrainingInterrupted, finetune

#: Exit status of a run that stopped because it was asked to.
INTERRUPTED = 75


def context() -> ForkServerContext:
    """Processes start from a server that has imported torch once, and nothing else: quickly, and as if anew."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["torch", "nybble.quantize.train"])
    return found


def start(
    work: Path, method: str, settings: dict[str, Any], environment: dict[str, str] | None = None
) -> tuple[ForkServerProcess, Connection]:
    """A process that trains, and the end of a pipe on which it reports its steps, then its weights."""
    here, there = context().Pipe(duplex=False)
    process = context().Process(target=_train, args=(there, work, method, settings, environment or {}))
    process.start()
    there.close()
    return process, here


def received(process: ForkServerProcess, pipe: Connection) -> dict[str, torch.Tensor] | None:
    """Wait for the process to end; its final weights, if it came to that."""
    last = None
    try:
        while True:
            message = pipe.recv()
            if isinstance(message, dict):
                last = {name: torch.from_numpy(value) for name, value in message.items()}
    except EOFError:
        pass
    process.join(120)
    return last


def _train(pipe: Connection, work: Path, method: str, settings: dict[str, Any], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard"] = None  # type: ignore[assignment]
    import nybble.quantize.train.run as run

    run.draw_curves = lambda path, rows: False
    prepared = network(method)
    calibration = CalibrationConfig(workers=0)
    calibrate(prepared, batches(stripes(32), PREPROCESSING, calibration), calibration)
    config = TrainingConfig(
        learning_rate=0.01,
        range_batches=2,
        workers=0,
        ema=0.9,
        augmentation=AugmentationConfig(crop="pad", padding=1),
    ).model_copy(update=settings)

    def progress(what: str, done: int, total: int | None) -> None:
        pipe.send(f"{what} {done}")

    try:
        finetune(prepared, stripes(48), stripes(16, seed=1), config, work=work, device="cpu", progress=progress)
    except TrainingInterrupted:
        sys.exit(INTERRUPTED)
    except BaseException:
        traceback.print_exc()
        raise
    pipe.send({name: value.numpy() for name, value in prepared.state_dict().items()})
