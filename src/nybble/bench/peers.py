"""The peers' models of the same network: float, and the fastest correct INT8 model on this machine."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from nybble.bench.engines.base import Engine
from nybble.bench.errors import BenchError, require
from nybble.bench.machine import describe
from nybble.bench.photos import Photos
from nybble.bench.race import Contestant, Worker
from nybble.bench.restrict import Restriction, restrict
from nybble.files import OWN, caching, write_text
from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.turns import take_turns

#: The peers: each is a file of ``engines``.
PEERS = ("onnxruntime", "openvino", "torch", "litert", "ncnn")
#: Selects every peer that is installed and can run the network.
ALL = "all"
#: The peer that runs the float network if none of the selected ones does.
FLOAT_PEER = "onnxruntime"
#: Largest difference of an INT8 model's top-1 from the float model's, as a share.
MARGIN = 0.03
#: A later candidate must be faster by this part to be preferred: less than that is noise.
ADVANTAGE = 0.05
#: Photos that calibrate, and at most so many others on which candidates are compared.
CALIBRATION = 100
SELECTION = 200
#: Batch of the comparison, and how often each candidate runs it.
TRIAL_BATCH = 8
TRIALS = 6


@dataclass(frozen=True)
class Candidate:
    """One way to quantize, its accuracy and speed; ``failed`` says why there are none."""

    name: str
    path: str
    top1: float | None
    images_per_second: float
    failed: str | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, all of them, and the float model's top-1 on the same photos."""

    chosen: Candidate
    candidates: list[Candidate]
    float_top1: float | None

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_text(path, json.dumps(asdict(self), indent=2), OWN)

    @classmethod
    def load(cls, path: Path) -> Choice:
        """Read what :meth:`save` wrote."""
        known = json.loads(path.read_text())
        candidates = [Candidate(**entry) for entry in known["candidates"]]
        return cls(Candidate(**known["chosen"]), candidates, known["float_top1"])


def engine_of(peer: str) -> Engine:
    """How a peer takes part."""
    found: Engine = importlib.import_module(f"nybble.bench.engines.{peer}").ENGINE
    return found


def check_installed(peers: Sequence[str]) -> None:
    """Raise :class:`BenchError` for a peer that is unknown or not installed, but where all were asked for."""
    choices = ", ".join((*PEERS, ALL))
    for peer in peers:
        if peer not in (*PEERS, ALL):
            raise BenchError(f"--against {peer}: choose from {choices}")
    if ALL not in peers:
        for peer in peers:
            _require(peer)


def installed(peers: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The peers asked for, and why others are left out where all were asked for."""
    if ALL not in peers:
        return list(peers), {}
    left_out = {}
    for peer in PEERS:
        try:
            _require(peer)
        except BenchError as error:
            left_out[peer] = str(error)
    return [peer for peer in PEERS if peer not in left_out], left_out


def _require(peer: str) -> None:
    engine = engine_of(peer)
    for package in engine.packages:
        require(package, f"--against {peer}", engine.remedy)


class Kitchen:
    """Makes the peers' models and keeps them in a folder for the next time.

    Parameters
    ----------
    graph : Graph
        With preprocessing.
    folder : Path
        The models of each network lie in a folder of their own in it.
    calibration : Photos
        Up to ``CALIBRATION`` of them calibrate; candidates are compared on others.
    threads : int
    isa : str or None
        One of ``isas.of_peers()`` that the peers keep to where they can be made to.
    float_model : Path, optional
        An ONNX file that takes normalised photos (N, C, H, W), of any number, for the network that ``graph`` was made
        of. Without it the float network is made of ``graph``.
    """

    def __init__(
        self,
        graph: Graph,
        folder: Path,
        calibration: Photos,
        threads: int,
        isa: str | None,
        float_model: Path | None = None,
    ) -> None:
        from nybble.graph.onnx import write_float_model

        assert graph.preprocessing is not None  # noqa: S101 - the caller has refused other graphs
        self._preprocessing: Preprocessing = graph.preprocessing
        self._threads = threads
        self._isa = isa
        order = np.random.default_rng(0).permutation(len(calibration))
        cut = min(CALIBRATION, max(1, len(calibration) // 2))
        self._calibration = calibration[order[:cut]]
        self._selection = calibration[order[cut : cut + SELECTION]] if len(calibration) > cut else self._calibration
        part = folder / "float.onnx"
        with caching(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if float_model is None:
                write_float_model(graph, part, plain=True)
            else:
                shutil.copyfile(float_model, part)
            digest = hashlib.sha256(part.read_bytes())
            digest.update(np.ascontiguousarray(self._calibration.samples).data)
            digest.update(_versions("onnxruntime", "nncf").encode())
            self._place = folder / digest.hexdigest()[:16]
            self._place.mkdir(exist_ok=True)
            self.float_path = part.replace(self._place / "float.onnx")

    def looks_up(self) -> bool:
        """Whether the float network looks values up, as functions are in one that is made of an integer graph."""
        import onnx

        nodes = onnx.load(str(self.float_path)).graph.node
        return any(node.op_type == "Gather" for node in nodes)

    def int8(self, peer: str) -> Choice:
        """The INT8 model of a peer: chosen by measurement, or as chosen before on such a machine."""
        about = describe()
        restriction = str(self.restriction(peer))
        machine = json.dumps(
            [about["cpu"], about["flags"], self._threads, restriction, _versions(engine_of(peer).distribution)]
        )
        record = self._place / f"{peer}-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"
        if record.is_file():
            known = Choice.load(record)
            if Path(known.chosen.path).is_file():
                return known
        made = self.make(peer)
        choice = self._compare(peer, made)
        choice.save(record)
        return choice

    def restriction(self, peer: str) -> Restriction | None:
        """The restriction of a peer to the requested instruction set."""
        return restrict(peer, self._isa) if self._isa else None

    def make(self, peer: str) -> dict[str, Path]:
        """A peer's INT8 models by name, made or kept; :class:`BenchError` where it cannot run the network."""
        normalised = self._preprocessing.normalise(self._calibration.samples).transpose(0, 3, 1, 2)
        photos: Array = np.ascontiguousarray(normalised)
        make = engine_of(peer).make_int8
        assert make is not None  # noqa: S101 - asked of peers with an INT8 form
        try:
            return make(self.float_path, self._place, photos)
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BenchError(f"{peer} cannot run this network in INT8: {reason}") from error

    def _compare(self, peer: str, made: dict[str, Path]) -> Choice:
        selection = self._selection
        photos = self._place / "selection.u8"
        selection.samples.tofile(photos)
        shape = selection.samples.shape[1:]
        everything = list(range(len(selection)))
        few = everything[:TRIAL_BATCH]
        top1: dict[str, float | None] = {}
        best = dict.fromkeys(made, 0.0)
        failed: dict[str, str] = {}
        with ExitStack() as stack:
            workers = {}
            for name, path in {"float": self.float_path, **made}.items():
                who = FLOAT_PEER if name == "float" and not engine_of(peer).runs_float else peer
                contestant = Contestant(f"{who} {name}", who, 8, path, restriction=self.restriction(who))
                try:
                    worker = stack.enter_context(Worker(contestant, photos, shape, self._preprocessing, self._threads))
                    predictions = worker.run(everything if selection.labels else few, TRIAL_BATCH)["predictions"]
                except BenchError as error:
                    # Not every engine has kernels for every combination of types on every processor.
                    if name == "float" or len(failed) == len(made) - 1:
                        raise
                    failed[name] = str(error)
                    continue
                workers[name] = worker
                top1[name] = share_right(dict(enumerate(predictions)), selection.labels)
            able = [name for name in made if name not in failed]
            speeds = take_turns([partial(_speed, workers[name], few) for name in able], range(TRIALS))
            best.update(zip(able, map(max, speeds), strict=True))
        candidates = [
            Candidate(name, str(path), top1.get(name), best[name], failed.get(name)) for name, path in made.items()
        ]
        return Choice(choose(candidates, top1["float"]), candidates, top1["float"])


def _speed(worker: Worker, photos: list[int], _: int) -> float:
    """Images per second."""
    return len(photos) / float(worker.run(photos, TRIAL_BATCH)["seconds"])


def choose(candidates: list[Candidate], float_top1: float | None) -> Candidate:
    """The first that is right, unless a later one that is right is clearly faster."""
    able = [entry for entry in candidates if entry.failed is None]
    right = [entry for entry in able if entry.top1 is None or entry.top1 >= (float_top1 or 0.0) - MARGIN]
    if not right:
        # If all candidates are wrong, the most accurate one is the fairest choice.
        return max(able, key=lambda entry: entry.top1 or 0.0)
    chosen = right[0]
    for entry in right[1:]:
        if entry.images_per_second > chosen.images_per_second * (1 + ADVANTAGE):
            chosen = entry
    return chosen


def share_right(predictions: dict[int, int], labels: list[int] | None) -> float | None:
    """The share of photos that are classified correctly; ``None`` without labels."""
    if labels is None or not predictions:
        return None
    return float(np.mean([labels[photo] == named for photo, named in predictions.items()]))


def _versions(*packages: str) -> str:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
