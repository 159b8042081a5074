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


def train(
    network: nn.Module,
    photos: Photos,
    selection: Photos,
    preprocessing: Preprocessing,
    config: TrainingConfig,
    work: Path,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Train in place with bfloat16 autocast, resuming after the last whole epoch; the selection set's figures."""
    network.to(memory_format=torch.channels_last)
    loader = Loader(photos, preprocessing, batch=config.batch, augmentation=config.augmentation, seed=config.seed)
    optimizer = make_optimizer(network, config)
    steps = len(photos) // config.batch
    state = atomic.load(work) or {"epoch": 0, "rows": []}
    if state["epoch"]:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    rows: list[dict[str, Any]] = state["rows"]
    for epoch in range(state["epoch"], config.epochs):
        network.train()
        order = np.random.default_rng((config.seed, epoch)).permutation(len(photos)).tolist()
        groups = [order[step * config.batch : (step + 1) * config.batch] for step in range(steps)]
        total = 0.0
        for step, batch in enumerate(loader.load(groups, epoch)):
            set_rate(optimizer, config, epoch * steps + step, steps)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch.images)
            loss = functional.cross_entropy(logits.float(), batch.labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
            progress(f"float epoch {epoch + 1} of {config.epochs}, loss {total / (step + 1):.4f}", step + 1, steps)
        found = evaluate(network, selection, preprocessing, batch=250)
        rows.append({"epoch": epoch + 1, "loss": total / steps, "top1": found.top1.value})
        show(rows[-1])
        saved = {"epoch": epoch + 1, "rows": rows, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
        atomic.save(work, saved)
    return rows
