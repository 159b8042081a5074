"""Plain training of a float network, its batch norms alive: what comes before quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import Progress, show
from torch import nn
from torch.nn import functional

from nybble.graph import Preprocessing
from nybble.quantize import atomic
from nybble.quantize.data import Loader, Photos
from nybble.quantize.settings import TrainingConfig
from nybble.quantize.train.evaluate import evaluate
from nybble.quantize.train.optimizer import make_optimizer
from nybble.quantize.train.schedule import set_rate

#: Steps between two checkpoints within an epoch.
SAVE_EVERY = 50


def train(
    network: nn.Module,
    photos: Photos,
    selection: Photos,
    preprocessing: Preprocessing,
    config: TrainingConfig,
    work: Path,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Train in place with bfloat16 autocast; returns the selection set's figures, epoch by epoch.

    The state is written to ``work`` after each epoch and every :data:`SAVE_EVERY` steps. A run that was killed
    continues from there with the same photos.
    """
    network.to(memory_format=torch.channels_last)
    loader = Loader(photos, preprocessing, batch=config.batch, augmentation=config.augmentation, seed=config.seed)
    optimizer = make_optimizer(network, config)
    steps = len(photos) // config.batch
    state = atomic.load(work) or {"epoch": 0, "rows": []}
    if "network" in state:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    rows: list[dict[str, Any]] = state["rows"]
    # Files of finished epochs, also of earlier versions, have neither key.
    first, total = state.get("step", 0), state.get("total", 0.0)

    def save(epoch: int, **position: float) -> None:
        parts = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        atomic.save(work, {"epoch": epoch, "rows": rows, **parts, **position})

    for epoch in range(state["epoch"], config.epochs):
        network.train()
        order = np.random.default_rng((config.seed, epoch)).permutation(len(photos)).tolist()
        groups = [order[step * config.batch : (step + 1) * config.batch] for step in range(steps)]
        for step, batch in enumerate(loader.load(groups[first:], epoch), first):
            set_rate(optimizer, config, epoch * steps + step, steps)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch.images)
            loss = functional.cross_entropy(logits.float(), batch.labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
            if (step + 1) % SAVE_EVERY == 0:
                save(epoch, step=step + 1, total=total)
            progress(f"float epoch {epoch + 1} of {config.epochs}, loss {total / (step + 1):.4f}", step + 1, steps)
        found = evaluate(network, selection, preprocessing, batch=250)
        rows.append({"epoch": epoch + 1, "loss": total / steps, "top1": found.top1.value})
        show(rows[-1])
        save(epoch + 1)
        first, total = 0, 0.0
    return rows
