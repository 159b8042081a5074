"""The same work on this engine and on its peers, interleaved, with a result that describes the measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nybble import schemas
from nybble.bench import machine
from nybble.bench.ceilings import Ceiling, measure_ceilings
from nybble.bench.dense import dense_copy
from nybble.bench.errors import BenchError
from nybble.bench.peers import ALL, FLOAT_PEER, Choice, Kitchen, check_installed, engine_of, installed, share_right
from nybble.bench.photos import Photos
from nybble.bench.race import Contestant, Entry, Runs, Worker, run_rounds
from nybble.bench.restrict import restrict
from nybble.bench.result import float_top1, is_wrong, ratio_records, run_records
from nybble.bench.roofline import layer_points
from nybble.bench.scaling import loop_isa, measure_scaling
from nybble.disturbance import disturbance, usage, warning
from nybble.graph import Graph, write_graph
from nybble.graph.convert import to_bits
from nybble.progress import Progress, counted, silent
from nybble.turns import rounds_of

#: The process of a contestant on so many threads.
Start = Callable[[Contestant, int], Worker]
#: Rounds that are run even if the seconds are spent: fewer give no spread.
FEWEST_ROUNDS = 5
#: The description of the peers' float network if no file is given.
MADE = "made of the 4-bit network"
#: Photos per turn when scaling is measured, if no batch needs more.
FEWEST_SCALED = 8
#: Photos on which biases of the dense copy are raised, and others on which the result is checked.
DENSE_PHOTOS = 6


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes
    ----------
    against : sequence of str
        Peers; see ``peers.PEERS``. ``all``: those that are installed and can run the network.
    bits : sequence of int
        4 is the network itself, 8 the same network in eight bits.
    batches : sequence of int
    seconds : float
        Of timed work, on average, of each contestant at each batch size.
    turn : int
        Photos of a turn; more where a batch needs them.
    dense : bool
        Also run without zeros.
    isa : str or None
        Of nybble.
    peer_isa : str or None
        The instruction set that peers are restricted to; see ``restrict``.
    ceilings : bool
        Also measure the machine's peak rates, and compare each layer with them.
    fp32 : bool
        Let peers run in float as well. Without it one does, since top-1 is compared with that of float.
    scaling : bool
        Also measure the speed-up by more threads.
    device : str
        What nybble runs on; its peers stay on the CPU.
    """

    against: Sequence[str] = ("onnxruntime", "openvino")
    bits: Sequence[int] = (4, 8)
    threads: int = 2
    batches: Sequence[int] = (1, 8)
    seconds: float = 10.0
    turn: int = 32
    dense: bool = True
    isa: str | None = None
    peer_isa: str | None = None
    ceilings: bool = False
    fp32: bool = True
    scaling: bool = True
    device: str = "cpu"


def bench(
    graph: Graph,
    source: str,
    photos: Photos,
    calibration: Photos,
    settings: Settings,
    cache: Path,
    progress: Progress = silent,
    float_model: Path | None = None,
) -> dict[str, Any]:
    """Run the benchmark.

    Parameters
    ----------
    graph : Graph
        The 4-bit network, with preprocessing.
    source : str
        Where it comes from, for the result.
    photos, calibration : Photos
        The photos that all contestants run, and those that calibrate the peers' INT8 models.
    settings : Settings
    cache : Path
        Folder where the peers' models are kept for the next time.
    progress : Progress
    float_model : Path, optional
        ONNX file of the float network that the peers run, in place of one made of ``graph``; see :class:`Kitchen`.

    Returns
    -------
    dict
        The result, ready for JSON; docs/benchmark.md describes it.

    Raises
    ------
    BenchError
        If a peer is not installed or dies.
    """
    preprocessing = graph.preprocessing
    if preprocessing is None:
        raise BenchError("the model has no file `preprocessing`, so it takes no photos")
    check_installed(settings.against)
    against, absent = installed(settings.against)
    used, begun = usage(), time.perf_counter()
    about = machine.describe()
    result: dict[str, Any] = {
        "schema": schemas.BENCH,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "network": source,
        "photos": photos.source,
        "photo_count": len(photos),
        "calibration": calibration.source,
        "float_network": float_model.name if float_model else MADE,
        "left_out": photos.left_out.to_json(),
        "calibration_left_out": calibration.left_out.to_json(),
        "exif": photos.exif,
        "settings": {**asdict(settings), "against": against, "isa_of_peers": _peer_isas(against, settings.peer_isa)},
    }
    with TemporaryDirectory(prefix="nybble-bench-") as name:
        folder = Path(name)
        progress("networks of nybble", 0, None)
        contestants, zeros = _ours(graph, photos, settings, folder)
        result["dense_zero_share"] = zeros
        kitchen = None
        if against:
            progress("float model for the peers", 0, None)
            kitchen = Kitchen(graph, cache, calibration, settings.threads, settings.peer_isa, float_model)
        result["looks_up_tables"] = kitchen is not None and kitchen.looks_up()
        others, choices, unable = _theirs(kitchen, settings, against, progress)
        contestants += others
        result["peers_left_out"] = {**absent, **unable}
        if not contestants:
            raise BenchError("there is nothing to measure: give --bits 4 or --against")
        samples = folder / "photos.u8"
        photos.samples.tofile(samples)

        def start(contestant: Contestant, threads: int) -> Worker:
            return Worker(contestant, samples, photos.samples.shape[1:], preprocessing, threads)

        runs, top1, loaded, rounds = race(contestants, photos, start, settings, progress)
        result["scaling"] = _scaling(contestants, len(photos), start, settings, progress)
    reference = float_top1(contestants, top1)
    wrong = {name for name, share in top1.items() if is_wrong(share, reference)}
    result |= {
        "rounds": rounds,
        "photos_per_turn": photos_per_turn(settings, len(photos)),
        "contestants": loaded,
        "int8_choices": {peer: asdict(choice) for peer, choice in choices.items()},
        "runs": run_records(contestants, runs, settings.threads, top1),
        "ratios": ratio_records(contestants, runs, wrong, settings.peer_isa),
    }
    if settings.device in ("cuda", "cuda-emulated"):
        result["roofline"] = _rooflines(graph, loaded, result["runs"])
    if settings.ceilings:
        result |= ceiling_records(settings.threads, progress)
        progress("layers", 0, None)
        result["layers"] = layer_points(graph, photos.samples[:4], settings.threads, settings.isa)
    about["load_average_after"] = machine.describe()["load_average"]
    about["disturbance"] = disturbance(used, usage())
    result["warning"] = warning(about["disturbance"])
    result["seconds"] = round(time.perf_counter() - begun, 1)
    return result


def _rooflines(graph: Graph, loaded: dict[str, Any], runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The share of the roofline that the 4-bit network reached at each batch size; ``None`` for unknown GPUs."""
    from nybble.backends.cuda.roofline import share_of_roofline

    found = []
    for run in runs:
        if (run["engine"], run["bits"], run["activations"]) == ("nybble", 4, "real"):
            isa, batch = loaded[run["contestant"]]["isa"], run["batch"]
            share = share_of_roofline(graph, isa, batch, run["images_per_second"])
            found.append({"contestant": run["contestant"], "gpu": isa, "batch": batch, "share": share})
    return found


def ceiling_records(threads: int, progress: Progress) -> dict[str, Any]:
    """The ``ceilings`` of the result, on one thread and on all."""
    found: list[Ceiling] = measure_ceilings(sorted({1, threads}), progress=progress)
    return {"ceilings": [{**asdict(entry), "best": entry.best, "median": entry.median} for entry in found]}


def _ours(graph: Graph, photos: Photos, settings: Settings, folder: Path) -> tuple[list[Contestant], float | None]:
    for bits in settings.bits:
        if bits not in (4, 8):
            raise BenchError(f"--bits {bits}: choose 4 or 8")
    networks = {"real": graph}
    zeros = None
    if settings.dense and settings.bits:
        samples = photos.samples
        dense, zeros = dense_copy(graph, samples[:: max(1, len(samples) // DENSE_PHOTOS)][:DENSE_PHOTOS])
        networks["dense"] = dense
    contestants = []
    for activations, network in networks.items():
        for bits in settings.bits:
            path = folder / f"{bits}-{activations}"
            write_graph(network if bits == 4 else to_bits(network, 8), path)
            name = f"nybble {bits}-bit" + (", dense" if activations == "dense" else "")
            contestants.append(
                Contestant(
                    name, "nybble", bits, path, activations=activations, isa=settings.isa, device=settings.device
                )
            )
    return contestants, zeros


def _theirs(
    kitchen: Kitchen | None, settings: Settings, against: list[str], progress: Progress
) -> tuple[list[Contestant], dict[str, Choice], dict[str, str]]:
    """The peers, how their INT8 models were chosen, and who cannot run the network where all were asked for."""
    choices: dict[str, Choice] = {}
    unable: dict[str, str] = {}
    contestants: list[Contestant] = []
    if kitchen is None:
        return contestants, choices, unable
    if not settings.fp32 or not any(engine_of(peer).runs_float for peer in against):
        # The float network shows which answers are wrong.
        restriction = kitchen.restriction(FLOAT_PEER)
        contestants.append(
            Contestant(f"{FLOAT_PEER} FP32", FLOAT_PEER, 32, kitchen.float_path, restriction=restriction)
        )
    for peer in against:
        engine = engine_of(peer)
        models = {"FP32": (32, kitchen.float_path)} if engine.runs_float and settings.fp32 else {}
        if not settings.fp32 and engine.make_int8 is None:
            unable[peer] = "runs in float only"
        if engine.make_int8 is not None:
            progress(f"INT8 models for {peer} (made and compared once, about two minutes)", 0, None)
            try:
                choices[peer] = kitchen.int8(peer)
                models["INT8"] = (8, Path(choices[peer].chosen.path))
            except BenchError as error:
                if ALL not in settings.against:
                    raise
                unable[peer] = str(error)
        restriction = kitchen.restriction(peer)
        for label, (bits, path) in models.items():
            for mode in engine.modes:
                name = f"{peer} {label}" + (", throughput" if mode == "throughput" else "")
                contestants.append(Contestant(name, peer, bits, path, mode, restriction=restriction))
    return contestants, choices, unable


def race(
    contestants: list[Contestant],
    photos: Photos,
    start: Start,
    settings: Settings,
    progress: Progress,
) -> tuple[dict[Entry, Runs], dict[str, float | None], dict[str, Any], int]:
    """Load and run all contestants, interleaved: their runs, their top-1, their descriptions, the number of rounds."""
    batches = sorted(set(settings.batches))
    runs: dict[Entry, Runs] = {}
    named: dict[tuple[str, Path], float | None] = {}
    with ExitStack() as stack:
        workers: list[Worker] = []
        for contestant in counted(contestants, "loading, warming up, top-1", len(contestants), progress):
            worker = stack.enter_context(start(contestant, settings.threads))
            workers.append(worker)
            # The smallest batch first, so that the peak memory at each point is that of batches up to this size.
            for batch in batches:
                few = list(range(min(len(photos), 2 * settings.threads * batch)))
                answer = worker.run(few, batch)
                runs[Entry(contestant.name, batch)] = Runs(peak_rss_bytes=answer["peak_rss_bytes"])
            model = (contestant.engine, contestant.model)
            if contestant.activations == "real" and photos.labels is not None and model not in named:
                answer = worker.run(range(len(photos)), batches[-1])
                named[model] = share_right(dict(enumerate(answer["predictions"])), photos.labels)
        loaded = {
            contestant.name: {**worker.about, "restriction": str(contestant.restriction or "none")}
            for contestant, worker in zip(contestants, workers, strict=True)
        }
        rounds = _rounds(workers, len(photos), batches, settings, runs, progress)
    # A dense network is a different network: its answers are meaningless.
    top1 = {
        entry.name: named.get((entry.engine, entry.model)) if entry.activations == "real" else None
        for entry in contestants
    }
    return runs, top1, loaded, rounds


def _scaling(
    contestants: list[Contestant],
    count: int,
    start: Start,
    settings: Settings,
    progress: Progress,
) -> dict[str, Any] | None:
    """How the 4-bit engine gains by threads; ``None`` without it, on one thread, without a loop, or not asked for."""
    ours = next((entry for entry in contestants if (entry.engine, entry.bits) == ("nybble", 4)), None)
    if ours is None or settings.threads == 1 or not settings.scaling or ours.device != "cpu":
        return None
    batches = sorted(set(settings.batches))
    allowed = 2 * settings.seconds * len(batches)
    progress("scaling over threads", 0, None)
    with ExitStack() as stack:
        one, all_of_them = (stack.enter_context(start(ours, threads)) for threads in (1, settings.threads))
        isa = loop_isa(one.about["isa"])
        if isa is None:
            return None
        # Turns are short, since disturbances often last for seconds.
        rounds = _photos_of_rounds(count, max(FEWEST_SCALED, *batches), allowed)
        return measure_scaling(one, all_of_them, settings.threads, isa, batches, rounds, progress)


def _photos_of_rounds(count: int, turn: int, allowed: float) -> Iterator[list[int]]:
    """The photos of each round, other ones than those before, until the seconds are spent."""
    order = np.random.default_rng(0).permutation(count)
    for done in rounds_of(allowed, FEWEST_ROUNDS):
        yield np.take(order, np.arange(done * turn, (done + 1) * turn), mode="wrap").tolist()


def _rounds(
    workers: list[Worker],
    count: int,
    batches: list[int],
    settings: Settings,
    runs: dict[Entry, Runs],
    progress: Progress,
) -> int:
    """Rounds until the seconds are spent, each on other photos; returns how many."""
    rounds = _photos_of_rounds(count, photos_per_turn(settings, count), settings.seconds * len(workers) * len(batches))
    return run_rounds(workers, counted(rounds, "rounds", None, progress), batches, runs)


def photos_per_turn(settings: Settings, count: int) -> int:
    """Photos of a turn: enough to keep every thread busy twice with the largest batch, whole batches."""
    wanted = max(settings.turn, 2 * settings.threads * max(settings.batches))
    largest = max(settings.batches)
    return max(largest, min(wanted, count) // largest * largest)


def _peer_isas(against: Sequence[str], isa: str | None) -> dict[str, str]:
    if isa is None:
        return dict.fromkeys(against, "unrestricted")
    restrictions = {peer: restrict(peer, isa) for peer in against}
    return {
        peer: str(restriction) if restriction else "cannot be restricted here; takes no part in ratios"
        for peer, restriction in restrictions.items()
    }
