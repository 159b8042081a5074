"""One fine-tuning run: its state, its steps, and how it is stored."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nybble.progress import Progress
from nybble.quantize import atomic
from nybble.quantize.data import Batch, Loader, Photos, Subset
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.output_error import output_error
from nybble.quantize.ptq.blocks import split
from nybble.quantize.settings import TrainingConfig
from nybble.quantize.train import checkpoint
from nybble.quantize.train.adjust import adjust_ranges
from nybble.quantize.train.average import WeightAverage
from nybble.quantize.train.evaluate import check_labels, evaluate, preprocessing_of
from nybble.quantize.train.interrupt import StopRequest, TrainingInterrupted
from nybble.quantize.train.loss import damping_loss, feature_loss, mixed
from nybble.quantize.train.loss import loss as loss_of
from nybble.quantize.train.metrics import Board, Row, draw_curves, write_csv
from nybble.quantize.train.optimizer import make_optimizer
from nybble.quantize.train.outputs import Outputs, evaluate_outputs
from nybble.quantize.train.processes import Processes
from nybble.quantize.train.schedule import set_rate

if TYPE_CHECKING:
    from nybble.quantize.fake.network import QuantizedNetwork

#: Settings that change nothing about the weights a run ends with.
_FREE = {"workers", "save_every"}
#: Steps between two checks that the loss is finite; on a GPU each check waits for the device.
_LOOK = 50


@dataclass
class Position:
    """Where a run is: the next step, sums of its epoch so far, and the best epoch yet (-1: none).

    ``best_top1`` is, of a network that is not a classifier, the least noise of its outputs, negated.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    images: int = 0
    seconds: float = 0.0
    best_epoch: int = -1
    best_top1: float = -math.inf


class Run:
    """A fine-tuning run. See :func:`nybble.quantize.train.finetune` for the parameters."""

    def __init__(
        self,
        network: QuantizedNetwork,
        train: Photos,
        val: Photos | None,
        config: TrainingConfig,
        teacher: nn.Module | None,
        work: Path,
        processes: Processes,
        progress: Progress,
    ) -> None:
        self.network = network.to(processes.device)
        self.val, self.config, self.work, self.processes, self.progress = val, config, work, processes, progress
        self.teacher = None if teacher is None else teacher.to(processes.device).eval().requires_grad_(False)
        preprocessing = preprocessing_of(network)
        #: Nothing but the teacher's answers is followed.
        self.without_labels = teacher is not None and config.distillation >= 1 and not train.labelled
        #: Steps of the outputs of a network that is not a classifier; it follows the teacher's and nothing else.
        self.results = list(network.result_steps.values())
        if self.results:
            self._check_outputs()
        blocks = [block.steps[-1].name for block in split(network)][:-1] if config.features else []
        self.blocks = [name for name in blocks if name not in self.results]
        if config.features and not isinstance(teacher, type(network)):
            raise QuantizeError(
                f"features={config.features:g} compares blocks, for which the teacher has to be a copy of the network "
                "in mode float"
            )
        if config.augmentation.size is not None:
            self._check_size(config.augmentation.size)
        self.loader = Loader(
            train,
            preprocessing,
            batch=config.batch,
            augmentation=config.augmentation,
            seed=config.seed,
            workers=config.workers,
        )
        self.plain = Loader(train, preprocessing, batch=config.batch, workers=config.workers)
        self.steps = len(train) // (config.batch * processes.count)
        if not self.steps:
            raise QuantizeError(
                f"{len(train)} training photos do not fill one batch of {config.batch} in each of "
                f"{processes.count} processes; choose a smaller batch"
            )
        self.optimizer = make_optimizer(network, config)
        self._layers = list(network.layers().values())
        self.average = WeightAverage(network, config.ema) if config.ema else None
        self.amp = {"off": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[config.amp]
        if processes.device.type != "cuda" and self.amp is torch.float16:
            self.amp = None
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=self.amp is torch.float16)
        self.at = Position()
        self.rows: list[Row] = []
        self.about = {
            "settings": config.model_dump_json(exclude=_FREE),
            "network": _digest(network),
            "training photos": train.fingerprint,
            "validation photos": "" if val is None else val.fingerprint,
            "teacher": str(teacher is not None),
            "processes": str(processes.count),
        }

    def _check_outputs(self) -> None:
        """Refuse settings that make no sense for a network that is not a classifier."""
        if self.config.distillation < 1 or not isinstance(self.teacher, type(self.network)):
            raise QuantizeError(
                f"a network with the outputs {', '.join(self.network.outputs[:4])} is trained by distillation alone: "
                "distillation=1 (--distil), the teacher being a copy of the network in mode float"
            )
        if self.config.mixup:
            raise QuantizeError("mixup blends photos of classes; leave it out for a network that is not a classifier")
        self.without_labels = True

    def _check_size(self, size: int) -> None:
        """Parts of another size than the input need a network without fixed sizes."""
        try:
            with torch.no_grad():
                self.network(torch.zeros(1, self.network.input_shape[0], size, size, device=self.processes.device))
        except RuntimeError as error:
            raise QuantizeError(
                f"augmentation.size={size}: this network has sizes of its own, so it is trained at that of its input; "
                "leave augmentation.size out"
            ) from error

    def restore(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        state = checkpoint.restore(self.work / checkpoint.LAST, self.about)
        if state is None:
            return False
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.scaler.load_state_dict(state["scaler"])
        self.at = Position(**state["run"]["at"])
        self.rows = state["run"]["rows"]
        checkpoint.set_rng_state(state["rng"][self.processes.rank])
        return True

    def begin(self) -> None:
        """Seed, and estimate batch norms anew where asked to."""
        torch.manual_seed(self.config.seed + self.processes.rank)
        if self.config.reestimate_batches:
            order = np.random.default_rng(self.config.seed).permutation(len(self.plain.photos)).tolist()
            groups = [order[first : first + self.plain.batch] for first in range(0, len(order), self.plain.batch)]
            batches = self.plain.load(groups[: self.config.reestimate_batches])
            self.network.reestimate_batch_norm(batch.images.to(self.processes.device) for batch in batches)

    def train(self, stop: StopRequest) -> None:
        """Run all epochs that are left."""
        if self.config.freeze_batch_norm:
            self.network.freeze_batch_norm()
        self.network.set_mode("quantize")
        board = Board(self.work / "tensorboard" if self.processes.is_first else None)
        try:
            while self.at.epoch < self.config.epochs:
                if self.at.step == 0:
                    self._adjust()
                self._epoch(stop)
                board.write(self._finish_epoch())
                if self.processes.any(bool(stop)) and self.at.epoch < self.config.epochs:
                    raise self._interrupted()
        finally:
            board.close()

    def load_best(self) -> None:
        """Give the network the weights of the best epoch; without validation, the last (averaged) ones."""
        self.processes.wait()
        state = atomic.load(self.work / checkpoint.BEST) if self.at.best_epoch >= 0 else None
        if state is not None:
            self.network.load_state_dict(state["network"])

    def _adjust(self) -> None:
        """Fresh ranges before an epoch. Learned steps are fresh once only: where batch norms changed the weights."""
        config = self.config
        learned = self.network.config.method == "lsq"
        wanted = self.at.epoch == 0 and config.reestimate_batches > 0 if learned else True
        if config.range_epochs is not None and self.at.epoch >= config.range_epochs:
            wanted = False
        if wanted and config.range_batches:
            calibration = self.network.config.calibration
            adjust_ranges(self.network, self.plain, config, calibration, self.at.epoch, self.processes, self.progress)

    def _epoch(self, stop: StopRequest) -> None:
        config, at = self.config, self.at
        wrapped = self._wrapped()
        wrapped.train()
        description = f"epoch {at.epoch + 1} of {config.epochs}"
        # In float64 on the device: a sum per step would otherwise wait for the GPU.
        sums = torch.tensor([at.loss, at.right], dtype=torch.float64, device=self.processes.device)
        begun, before = time.perf_counter(), at.seconds
        for batch in self.loader.load(self._groups()[at.step :], at.epoch):
            set_rate(self.optimizer, config, at.epoch * self.steps + at.step, self.steps)
            self._step(wrapped, batch, sums)
            at.step += 1
            at.images += len(batch.labels)
            if self.processes.device.type == "cpu" or at.step % _LOOK == 0 or at.step == self.steps:
                self._look(sums)
            at.seconds = before + time.perf_counter() - begun
            self.progress(description, at.step, self.steps)
            stopping = self.processes.any(bool(stop))
            if stopping or (config.save_every and at.step % config.save_every == 0 and at.step < self.steps):
                self._look(sums)
                self._save()
            if stopping:
                raise self._interrupted()
        if at.step != self.steps:
            raise QuantizeError("no training photo could be used; see the report of the data")
        self._look(sums)

    def _wrapped(self) -> nn.Module:
        """The network, or the same with gradients averaged over the processes."""
        if self.processes.count == 1:
            return self.network
        device = self.processes.device
        # Buffers are the same everywhere already: ranges come from merged histograms.
        return DistributedDataParallel(
            self.network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )

    def _groups(self) -> list[list[int]]:
        """The process's share of each step's photos, in an order that follows from seed and epoch."""
        config, processes = self.config, self.processes
        photos = len(self.loader.photos)
        order = np.random.default_rng((config.seed, self.at.epoch)).permutation(photos).tolist()
        whole = config.batch * processes.count
        firsts = [step * whole + processes.rank * config.batch for step in range(self.steps)]
        return [order[first : first + config.batch] for first in firsts]

    def _step(self, wrapped: nn.Module, batch: Batch, sums: Tensor) -> None:
        """One optimizer step over a batch, in ``accumulate`` parts."""
        config, device = self.config, self.processes.device
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(*(tensor.chunk(config.accumulate) for tensor in batch), strict=True))
        for place, (some, labels, indices) in enumerate(parts):
            some, truth = some.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            last = place == len(parts) - 1
            # Gradients of the parts add up here; the processes need exchange them once only.
            quiet = wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()
            with quiet:
                partners, own = None, 1.0
                if config.mixup:
                    random = np.random.default_rng(
                        (config.seed, self.at.epoch, self.at.step, place, self.processes.rank)
                    )
                    some, partners, own = mixed(some, config.mixup, random)
                with torch.autocast(device.type, dtype=self.amp, enabled=self.amp is not None):
                    logits, told, apart = self._answers(wrapped, some)
                if not self.without_labels:
                    check_labels(labels, indices, self.loader.photos, logits.shape[1])
                value = logits.new_zeros(()).float()
                if not self.results:
                    value = own * loss_of(logits, truth, told, config)
                if partners is not None:
                    value = value + (1 - own) * loss_of(logits, truth[partners], told, config)
                if apart is not None:
                    value = value + apart
                if config.damping:
                    value = value + config.damping * self._progress_share() * damping_loss(self._layers)
                share = len(truth) / len(batch.labels)
                self.scaler.scale(value * share).backward()
            sums[0] += value.detach().double() * len(truth)
            if not self.results:
                sums[1] += (logits.detach().argmax(dim=1) == truth).sum()
        if config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)

    def _progress_share(self) -> float:
        """From 0 at the beginning to 1 at the end, slowly at both: half a cosine."""
        done = (self.at.epoch * self.steps + self.at.step) / max(1, self.config.epochs * self.steps)
        return 0.5 * (1 - math.cos(math.pi * done))

    def _answers(self, wrapped: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The network's logits, the teacher's, and the loss of what is apart: blocks, outputs."""
        config, teacher = self.config, self.teacher
        if teacher is not None and self.results:
            names = [*self.results, *self.blocks]
            with torch.no_grad():
                told, wanted = teacher(images, names)
            logits, values = wrapped(images, names)
            apart = output_error(values, {name: wanted[name] for name in self.results})
            if self.blocks:
                apart = apart + config.features * feature_loss(values, {name: wanted[name] for name in self.blocks})
            return logits, told, apart
        if teacher is None or not (config.distillation or config.features):
            return wrapped(images), None, None
        if not config.features:
            with torch.no_grad():
                told = teacher(images)
            return wrapped(images), told, None
        with torch.no_grad():
            told, wanted = teacher(images, self.blocks)
        logits, values = wrapped(images, self.blocks)
        return logits, told, config.features * feature_loss(values, wanted)

    def _look(self, sums: Tensor) -> None:
        self.at.loss, self.at.right = sums.tolist()
        if not np.isfinite(self.at.loss):
            raise QuantizeError(
                f"the loss became NaN or infinite in epoch {self.at.epoch + 1}, by step {self.at.step}; lower the "
                "learning rate, or set clip_norm"
            )

    def _finish_epoch(self) -> Row:
        """Validate, note the figures, keep the best, write everything."""
        at = self.at
        loss, right, images = self.processes.sum([at.loss, at.right, float(at.images)])
        row: Row = {
            "epoch": at.epoch + 1,
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups if group["factor"] == 1),
            "loss": loss / images,
            "images_per_second": images / max(at.seconds, 1e-9),
            "seconds": at.seconds,
        }
        if not self.without_labels:
            row["top1_train"] = right / images
        with self.average.applied(self.network) if self.average is not None else nullcontext():
            if self.val is not None:
                row |= self._validate(self.val)
            kept = -row["val_noise"] if "val_noise" in row else row.get("top1", float(at.epoch))
            if kept > at.best_top1:
                at.best_top1, at.best_epoch = kept, at.epoch
                if self.processes.is_first:
                    best = {"network": self.network.state_dict(), "epoch": at.epoch + 1, "row": row}
                    atomic.save(self.work / checkpoint.BEST, best)
        self.rows.append(row)
        self.at = Position(epoch=at.epoch + 1, best_epoch=at.best_epoch, best_top1=at.best_top1)
        self._save()
        if self.processes.is_first:
            write_csv(self.work / "metrics.csv", self.rows)
            draw_curves(self.work / "curves.png", self.rows)
        return row

    def _validate(self, val: Photos) -> Row:
        """Each process takes its share of the photos; without labels a classifier has nothing to measure."""
        share = Subset(val, range(self.processes.rank, len(val), self.processes.count))
        if self.results:
            return self._noise(share)
        if not val.labelled:
            return {}
        sums = [0.0] * 4
        if len(share):
            found = evaluate(
                self.network,
                share,
                batch=self.config.batch,
                workers=self.config.workers,
                progress=self.progress,
                what="validating",
            )
            if found.top1 is not None and found.top5 is not None and found.loss is not None:
                total = found.top1.total
                sums = [float(found.top1.right), float(found.top5.right), found.loss * total, float(total)]
        top1, top5, loss, images = self.processes.sum(sums)
        return {"top1": top1 / images, "top5": top5 / images, "val_loss": loss / images}

    def _noise(self, share: Photos) -> Row:
        """Noise of the outputs before the tail against the teacher's, averaged over the processes' photos."""
        device = self.processes.device
        sums = [0.0, 0.0]
        if len(share) and self.teacher is not None:
            teacher: QuantizedNetwork = self.teacher

            def outputs_of(network: QuantizedNetwork) -> Outputs:
                return lambda images: {
                    name: value.cpu().numpy() for name, value in network.results(images.to(device)).items()
                }

            was_training = self.network.training
            self.network.eval()
            with torch.inference_mode():
                found = evaluate_outputs(
                    outputs_of(self.network),
                    outputs_of(teacher),
                    share,
                    preprocessing_of(self.network),
                    batch=self.config.batch,
                    workers=self.config.workers,
                    progress=self.progress,
                    what="validating",
                )
            self.network.train(was_training)
            sums = [found.mean_noise * found.images, float(found.images)]
        noise, images = self.processes.sum(sums)
        return {"val_noise": noise / max(images, 1.0)}

    def _save(self) -> None:
        rng = self.processes.gather(checkpoint.rng_state())
        if self.processes.is_first:
            run = {"at": asdict(self.at), "rows": self.rows}
            state = checkpoint.pack(self.network, self.optimizer, self.average, self.scaler, rng, run, self.about)
            atomic.save(self.work / checkpoint.LAST, state)
        self.processes.wait()

    def _interrupted(self) -> TrainingInterrupted:
        return TrainingInterrupted(
            f"interrupted in epoch {self.at.epoch + 1}, after step {self.at.step} of {self.steps}; "
            f"{self.work / checkpoint.LAST} was written, and the same call goes on from there"
        )


def _digest(network: QuantizedNetwork) -> str:
    """A digest of the network without its weights, which may have been calibrated with another number of threads."""
    digest = hashlib.sha256(network.config.model_dump_json(exclude={"training"}).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
    return digest.hexdigest()
