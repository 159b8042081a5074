"""The stages of a run: float, calibrated, fine-tuned, integer."""

from __future__ import annotations

import copy
import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nybble.disturbance import Watch
from nybble.engine import Engine
from nybble.graph import Graph, GraphError, Preprocessing, Task
from nybble.images.names import known_classes
from nybble.progress import Progress, silent
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.calibrate.report import CalibrationReport
from nybble.quantize.data import Loader, Relabelled, batches
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ir.float_network import FloatNetwork, RecordedModule
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.conversion import ConversionReport
from nybble.quantize.lower.convert import convert
from nybble.quantize.lower.restore import from_graph
from nybble.quantize.pipeline import post, tasks
from nybble.quantize.pipeline.lock import locked
from nybble.quantize.pipeline.measure import EngineModule, float_bytes, graph_bytes, in_turns
from nybble.quantize.pipeline.outcome import Outcome, Stage
from nybble.quantize.pipeline.pictures import PHOTOS
from nybble.quantize.pipeline.preprocessing import preprocessing_of_source, with_noise
from nybble.quantize.pipeline.report import Report
from nybble.quantize.pipeline.selection import Chosen, choose_photos, fit_labels, needed_labels
from nybble.quantize.pipeline.settings import PipelineConfig
from nybble.quantize.pipeline.store import evaluated, remembered
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.ptq.depthwise import scale_channels
from nybble.quantize.ptq.even import even_channels
from nybble.quantize.sources.load import load_source
from nybble.quantize.sources.pytorch.capture import capture_with_module
from nybble.quantize.train import Evaluation, OutputEvaluation, evaluate, evaluate_outputs, finetune
from nybble.quantize.train.outputs import Outputs

FLOAT, CALIBRATED, GIVEN, FINETUNED, ENGINE = "float", "calibrated", "as given", "fine-tuned", "integer engine"
#: Photos that ranges of channels are taken from.
_SCALED = 64
#: Photos that go through the network together when its speed is measured.
_TIMED_TOGETHER = 8


class Finished(NamedTuple):
    """The integer network and its results."""

    graph: Graph
    outcome: Outcome


def quantize(
    source: str,
    images: str | Path,
    config: PipelineConfig,
    *,
    val: str | Path | None = None,
    work: str | Path,
    report: str | Path | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    output: str | None = None,
) -> Finished | None:
    """Quantize the network of a SOURCE, and measure every stage on the selection photos.

    Parameters
    ----------
    source : str
        See :func:`nybble.quantize.load_source`. Of a module the float network is calibrated; a model directory
        keeps its bits and ranges, and is fine-tuned further.
    images : str or Path
        Training photos (:func:`nybble.quantize.data.open_photos`); labelled if there are epochs to train, unless by
        distillation alone.
    config : PipelineConfig
        ``training.epochs`` of 0 is post-training quantization.
    val : str or Path, optional
        Photos on which everything is chosen; by default a share of the training photos is split off. Without labels
        accuracy is not measured, only how often the float network's class is met.
    work : str or Path
        Folder for the state of the run: the same call goes on from there. The float network's answers, calibration,
        checkpoints.
    report : str or Path, optional
        Folder for histograms, curves and the error of each layer.
    threads : int, optional
        Of torch and of the engine; by default one per processor that the process may use.
    progress : callable
    output : str, optional
        The output of the source to use, if it has several.

    Returns
    -------
    Finished or None
        ``None`` in all but the first process of ``torchrun``.

    Raises
    ------
    TrainingInterrupted
        After SIGTERM or SIGINT in training; the same call goes on.
    QuantizeError
        Naming the fault in the source, the photos or the configuration, or the process that uses ``work``.
    """
    with _threads(threads), locked(Path(work)):
        return _Run(
            source, Path(images), config, None if val is None else Path(val), Path(work), threads, progress, output
        ).run(None if report is None else Path(report))


class _Run:
    def __init__(
        self,
        source: str,
        images: Path,
        config: PipelineConfig,
        val: Path | None,
        work: Path,
        threads: int | None,
        progress: Progress,
        output: str | None,
    ) -> None:
        self._source, self._images, self._config, self._val = source, images, config, val
        self._work, self._threads = work, threads
        self._output = output
        self._is_first = os.environ.get("RANK", "0") == "0"
        self._progress = progress if self._is_first else silent
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._photos: Chosen
        self._preprocessing: Preprocessing
        self._outcome: Outcome
        #: The prepared network in floating point, for what compares blocks.
        self._teacher: QuantizedNetwork
        self._details: dict[str, Any] = {}
        self._task: Task | None = None

    def run(self, folder: Path | None) -> Finished | None:
        begun = time.perf_counter()
        self._photos = choose_photos(self._images, self._val, self._config)
        module, network = self._networks()
        config = self._config
        outcome = self._outcome = Outcome(self._source, Path(), config, details=self._details)
        outcome.task = None if self._task is None else self._task.kind
        outcome.train, outcome.selection = len(self._photos.train), len(self._photos.selection)
        outcome.selection_origin = self._photos.origin
        outcome.found_no_photos = [*self._photos.train.left_out, *self._photos.selection.left_out]
        if network.outputs:
            found = tasks.exact(network, len(self._photos.selection))
            outcome.add(FLOAT, tasks.without_answers(found), size=float_bytes(module), outputs=found)
        else:
            outcome.add(FLOAT, self._evaluated(FLOAT, module), size=float_bytes(module))
        calibration = self._calibrate(network)
        outcome.kept = GIVEN if calibration is None else CALIBRATED
        self._add(outcome.kept, network)
        if config.training.epochs:
            self._finetune(network, module)
        if not self._is_first:
            return None
        network.to("cpu")
        graph, conversion = convert(network)
        self._integer(module.to("cpu"), graph, conversion)
        if folder is not None:
            report = Report(folder, outcome)
            report.write(calibration, self._work / "training")
            report.layers(network, graph, conversion, self._first_images(config.report_images))
            if network.outputs:
                with Engine(graph, threads=self._threads) as engine:
                    report.answers(self._teacher.to("cpu"), engine, self._first_images(PHOTOS))
        outcome.seconds = time.perf_counter() - begun
        return Finished(graph, outcome)

    # The networks

    def _networks(self) -> tuple[nn.Module, QuantizedNetwork]:
        """The float network and the prepared one; settles the configuration and holds labels against it."""
        loaded = load_source(self._source, self._output, seed=self._config.seed)
        train = self._photos.train
        if loaded.graph is not None:
            return self._restored(loaded.graph)
        if loaded.module is None:
            raise QuantizeError(f"{self._source}: names no network")
        module = loaded.module
        preprocessing = preprocessing_of_source(self._source, module, self._config.preprocessing)
        if self._config.noise is not None:
            preprocessing = with_noise(preprocessing, self._config.noise, self._config.preprocessing)
        self._preprocessing = preprocessing
        self._config = self._config.resolved(preprocessing, len(train))
        # Recorded once: a choice of bits prepares it three times.
        # A file's output was chosen when it was read.
        output = None if isinstance(module, RecordedModule) else self._output
        shape = (len(preprocessing.mean), *preprocessing.crop)
        recorded, module = capture_with_module(module, shape, output=output)
        self._task = tasks.task_of_source(self._source, module, self._config, recorded.outputs)
        if recorded.outputs:
            tasks.check_config(self._source, self._config, recorded.outputs, self._task)
        captured = self._scaled(fold(recorded))
        network = self._prepared(captured, self._config)
        self._settle(network)
        if self._config.has_budget:
            self._config = post.choose(
                functools.partial(self._prepared, captured),
                self._photos.train,
                self._photos.selection,
                self._config,
                self._work,
                self._progress,
                self._details,
            )
            network = self._prepared(captured, self._config)
            self._settle(network)
        network.to(self._device)
        train = self._photos.train
        data = batches(train, preprocessing, self._config.calibration)
        post.before_calibration(network, data, self._config, self._details)
        if self._config.training.features or network.outputs:
            self._teacher = copy.deepcopy(network)
        return module.to(self._device), network

    def _scaled(self, captured: FloatNetwork) -> FloatNetwork:
        """With channels of one size, and steps by channel beside depthwise layers, where these are wanted."""
        wanted = self._config.scale_channels
        if wanted is None:
            wanted = self._config.scale_channels = bool(captured.outputs)
        if not wanted:
            return captured
        data = batches(self._photos.train, self._preprocessing, self._config.calibration)
        made: FloatNetwork
        made, even = even_channels(captured, data, images=_SCALED)
        self._details["even_channels"] = [[entry.name, entry.smallest, entry.largest] for entry in even]
        made, found = scale_channels(made, data, images=_SCALED)
        self._details["scaled_channels"] = [[entry.name, entry.smallest, entry.largest] for entry in found]
        return made

    def _prepared(self, captured: FloatNetwork, config: PipelineConfig) -> QuantizedNetwork:
        network = prepare_captured(captured, config, self._preprocessing, config.class_names)
        network.task = self._task
        return network

    def _restored(self, graph: Graph) -> tuple[nn.Module, QuantizedNetwork]:
        """A model directory: the float network is the same one with its clipping, but without rounding."""
        config = self._config
        if graph.preprocessing is None:
            raise QuantizeError(f"{self._source}: has no file `preprocessing`, so it takes no photos")
        if not config.training.epochs:
            raise QuantizeError(
                f"{self._source}: is quantized already, so without epochs there is nothing to do; to quantize anew, "
                "start from the float network"
            )
        if config.preprocessing.model_fields_set:
            raise QuantizeError(f"{self._source}: a model directory has its own preprocessing, which cannot be changed")
        if config.layers or config.activations or config.from_float:
            raise QuantizeError(
                f"{self._source}: a model directory keeps its bits; reconstruction and the choice of bits start "
                "from the float network"
            )
        if config.task is not None or config.class_names is not None:
            raise QuantizeError(f"{self._source}: a model directory has its own task and class names")
        network = from_graph(graph, method=config.method)
        self._task = graph.task
        if network.outputs:
            tasks.check_config(self._source, config, network.outputs, graph.task)
        self._preprocessing = graph.preprocessing
        config = config.resolved(graph.preprocessing, len(self._photos.train))
        for name in ("layers", "activations"):
            setattr(config, name, getattr(network.config, name))
        self._config = config
        self._settle(network)
        clipped = copy.deepcopy(network)
        clipped.set_mode("clip")
        self._teacher = clipped.to(self._device)
        return self._teacher, network.to(self._device)

    def _settle(self, network: QuantizedNetwork) -> None:
        if network.outputs:
            # Labels say nothing of such a network's outputs.
            train, selection = (Relabelled(photos, None) for photos in self._photos[:2])
            self._photos = Chosen(train, selection, self._photos.origin)
        else:
            self._settle_labels(network)
        if isinstance(network.config, PipelineConfig) and not self._config.has_budget:
            # With every layer listed.
            self._config = network.config
        else:
            network.config = self._config

    def _settle_labels(self, network: QuantizedNetwork) -> None:
        shape = network.input_shape
        with torch.no_grad():
            classes = network(torch.zeros(1, *shape)).shape[1]
        names = known_classes(classes, network.class_names)
        need, origin = needed_labels(self._config), self._photos.origin
        train = fit_labels(self._photos.train, names, self._images, need.train)
        selection = fit_labels(self._photos.selection, names, self._val or self._images, need.selection)
        self._photos = Chosen(train, selection, origin)
        if len(train.classes) == classes and network.class_names is None:
            network.class_names = train.classes

    # The stages

    def _add(self, name: str, network: QuantizedNetwork) -> Stage:
        """Evaluate a network in torch, and add it to the outcome."""
        if not network.outputs:
            return self._outcome.add(name, self._evaluated(name, network))
        found = self._compared(name, lambda images: network.real_outputs(images.to(self._device)))
        return self._outcome.add(name, tasks.without_answers(found), outputs=found)

    def _compared(self, name: str, outputs: Outputs) -> OutputEvaluation:
        """Outputs against the float network's, on the selection photos."""
        config, teacher = self._config, self._teacher.to(self._device)
        return evaluate_outputs(
            outputs,
            lambda images: teacher.real_outputs(images.to(self._device)),
            self._photos.selection,
            self._preprocessing,
            batch=config.batch,
            workers=config.calibration.workers,
            progress=self._progress,
            what=f"evaluating: {name}",
        )

    def _evaluated(self, name: str, network: nn.Module) -> Evaluation:
        config, photos = self._config, self._photos.selection

        def run() -> Evaluation:
            return evaluate(
                network,
                photos,
                self._preprocessing,
                batch=config.batch,
                workers=config.calibration.workers,
                progress=self._progress,
                what=f"evaluating: {name}",
            )

        mode = getattr(network, "mode", "")
        about = f"{mode} {self._preprocessing} {config.layers} {config.activations}"
        if self._output is not None:
            about += f" {self._output}"
        return evaluated(self._work, name, network, photos, about, run)

    def _calibrate(self, network: QuantizedNetwork) -> CalibrationReport | None:
        """Set ranges, except those of a restored network, which is in mode ``quantize`` and has its own."""
        if network.mode == "quantize":
            return None
        config = self._config.calibration
        data = batches(self._photos.train, self._preprocessing, config)
        found = calibrate(network, data, config, work=self._work, progress=self._progress)
        self._outcome.photos["calibration"] = remembered(self._work, "calibration", data.fingerprint, data.report)
        images = (batch.images for batch in data)
        post.after_calibration(network, images, self._config, self._work, self._progress)
        return found

    def _finetune(self, network: QuantizedNetwork, module: nn.Module) -> None:
        """Train; the calibrated network is kept if training makes it worse on the selection photos."""
        config, outcome = self._config.training, self._outcome
        before = copy.deepcopy(network.state_dict())
        found = finetune(
            network,
            self._photos.train,
            self._photos.selection,
            config,
            teacher=self._teacher if config.features or network.outputs else module if config.distillation else None,
            work=self._work / "training",
            progress=self._progress,
        )
        outcome.training = list(found.epochs)
        outcome.photos["training"] = remembered(self._work, "training", self._photos.train.fingerprint, found.report)
        network.set_mode("quantize")
        stage = self._add(FINETUNED, network)
        if stage.score < outcome.stage(outcome.kept).score:
            network.load_state_dict(before)
        else:
            outcome.kept = FINETUNED

    def _integer(self, module: nn.Module, graph: Graph, conversion: ConversionReport) -> None:
        outcome = self._outcome
        try:
            engine = Engine(graph, threads=self._threads)
        except GraphError as error:
            raise QuantizeError(f"the integer network cannot run: {error}") from error
        with engine:
            stage = self._add_engine(engine, size=graph_bytes(graph))
            photos = next(self._first_images(_TIMED_TOGETHER))
            samples = np.ascontiguousarray(photos.numpy())
            module.eval()
            watch = Watch()
            with torch.inference_mode():
                speeds = in_turns({FLOAT: lambda: module(photos), ENGINE: lambda: engine.run(samples)}, len(photos))
            outcome.stages[0].images_per_second, stage.images_per_second = speeds[FLOAT], speeds[ENGINE]
            outcome.disturbance = watch.taken()
            outcome.threads, outcome.batch, outcome.isa = engine.threads, len(photos), engine.isa
        outcome.largest_rescale_error = conversion.largest_error

    def _add_engine(self, engine: Engine, size: int) -> Stage:
        """Evaluate the integer network on the engine, and add it to the outcome."""
        outcome, config = self._outcome, self._config
        if len(outcome.stages[0].output_noise):
            compared = self._compared(ENGINE, tasks.EngineOutputs(engine))
            return outcome.add(ENGINE, tasks.without_answers(compared), size=size, outputs=compared)
        found = evaluate(
            EngineModule(engine),
            self._photos.selection,
            self._preprocessing,
            batch=config.batch,
            workers=config.calibration.workers,
            progress=self._progress,
            what=f"evaluating: {ENGINE}",
        )
        kept = outcome.stage(outcome.kept).evaluation
        same = sum(found.predictions[index] == answer for index, answer in kept.predictions.items())
        outcome.same_as_fake = same / max(1, len(kept.predictions))
        return outcome.add(ENGINE, found, size=size)

    def _first_images(self, count: int) -> Iterator[Tensor]:
        """The first selection photos, normalised, (N, C, H, W)."""
        photos = self._photos.selection
        loader = Loader(photos, self._preprocessing, batch=min(count, self._config.batch))
        for batch in loader.in_order():
            some = batch.images[:count].contiguous()
            count -= len(some)
            yield some
            if not count:
                return


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
