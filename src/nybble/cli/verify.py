"""``nybble verify``: the engine against the integer reference, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.errors import CommandError, DifferenceError
from nybble.cli.model import CPU, Device, Json, Model, Threads, load_engine
from nybble.cli.output import print_json
from nybble.cli.photos import Batch, Exif, Limit, UnlabelledImages, end, preprocessing_of, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.engine import Engine
    from nybble.graph import Graph
    from nybble.graph.types import Array


@dataclass(frozen=True)
class Difference:
    """Where engine and reference first differ. ``position`` is the index in the value, batch excluded."""

    layer: str
    image: str
    position: list[int]
    expected: float
    got: float

    def __str__(self) -> str:
        place = ", ".join(map(str, self.position))
        return f"{self.layer} differs on {self.image} at ({place}): expected {self.expected}, got {self.got}"


def verify(
    images: UnlabelledImages,
    model: Model = None,
    limit: Limit = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare the output of every fused step, not only the logits.")
    ] = False,
    threads: Threads = None,
    batch: Batch = 8,
    isa: Annotated[
        str | None, typer.Option("--isa", metavar="NAME", help="Instruction set.", show_default="the best there is")
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", metavar="ROW", help="Run each layer that permits it with this kernel of the table."),
    ] = None,
    device: Device = CPU,
    exif: Exif = False,
    as_json: Json = False,
) -> None:
    """Compare the engine with the integer reference on photos, bit for bit; exit code 1 on the first difference.

    Logits are compared both from the photos and from the network's integer input. The reference is written to be
    plainly right, not fast: expect about a second per image. Photos that cannot be decoded are reported and left out;
    the exit code is then 4.
    """
    from nybble.images import LeftOut, batches, open_photos
    from nybble.models import find
    from nybble.reference import interpret

    chosen = find(model)
    if device != CPU and kernel is not None:
        raise CommandError(f"--kernel names kernels of the CPU, and --device is {device}")
    engine = load_engine(chosen.path, threads, device, isa)
    if device == CPU and (isa is not None or kernel is not None):
        engine = _forced(engine, isa, kernel)
    graph = engine.graph
    preprocessing = preprocessing_of(graph)
    folder = open_photos(images, limit)
    left_out = LeftOut(folder.left_out)
    count = 0
    steps: set[str] = set()
    values = 0
    difference: Difference | None = None
    with one_bar() as progress:
        progress("verifying", 0, len(folder))
        for photos, entries in batches(folder, preprocessing, batch=batch, exif=exif, left_out=left_out):
            # Prepared here, by the definition; the engine's own way is checked through `engine(photos)`.
            integers = preprocessing.quantize(preprocessing.normalise(photos)).transpose(0, 3, 1, 2).copy()
            taps, outputs = _run(engine, photos, integers, layers)
            steps.update(taps)
            for offset, entry in enumerate(entries):
                expected = interpret(graph, integers[offset : offset + 1], keep=taps)
                found, compared = _compare(graph, entry.file, expected, taps, outputs, offset)
                values += compared
                if found is not None:
                    difference = found
                    break
                count += 1
                progress("verifying", count, len(folder))
            if difference is not None:
                break
    left_out.check(count + (difference is not None))
    report_left_out(left_out)
    if as_json:
        print_json(
            {
                "model": chosen.name,
                "folder": str(images),
                "images": count,
                "left_out": left_out.to_json(),
                "exif": exif,
                "steps": len(steps),
                "values_compared": values,
                "equal": difference is None,
                "difference": asdict(difference) if difference is not None else None,
                "batch": batch,
                "threads": engine.threads,
                "device": device,
                "isa": engine.isa,
                "kernel": kernel,
            }
        )
    if difference is not None:
        raise DifferenceError(str(difference))
    if not as_json:
        result = "logit" if graph.task is None and len(graph.outputs) == 1 else "result"
        what = f"every {result} and every output of {len(steps)} fused steps" if layers else f"every {result}"
        typer.echo(f"no difference: {what} on {count} images, {values:,} values")
        forced = f", kernel {kernel} wherever it can run" if kernel is not None else ""
        typer.echo(f"{engine.isa}, threads {engine.threads}, batch {batch}{forced}")
    end(left_out)


def _forced(engine: Engine, isa: str | None, kernel: str | None) -> Engine:
    """The same network on an instruction set, by one kernel of its table wherever that can run."""
    from nybble.backends.cpu.choices import forced
    from nybble.engine import Engine, available_isas

    name = isa or engine.isa
    if name not in available_isas():
        raise CommandError(f"--isa {name}: this machine has {', '.join(available_isas())}")
    choices = forced(engine.graph, name, kernel) if kernel is not None else None
    return Engine(engine.graph, engine.threads, name, tuned=False, choices=choices)


def _run(
    engine: Engine, photos: Array, integers: Array, layers: bool
) -> tuple[dict[str, Array], dict[tuple[str, str], Array]]:
    """What the engine computes: the output of each step, and the results by name in both ways it gives them."""
    taps = dict(engine.tap(integers)) if layers else {}
    unknown = sorted(taps.keys() - engine.graph.values.keys())
    if unknown:
        raise DifferenceError(f"the engine taps {unknown[0]!r}, which is not a value of the graph")
    if layers and not taps:
        raise DifferenceError("the engine returns no values of steps, so no layer can be compared")
    found = {}
    for way, results in (("integers", engine.run(integers, integers=True)), ("photos", engine.run(photos))):
        found.update({(name, way): values for name, values in results.items()})
    return taps, found


def _compare(
    graph: Graph,
    image: str,
    expected: Mapping[str, Array],
    taps: Mapping[str, Array],
    outputs: Mapping[tuple[str, str], Array],
    offset: int,
) -> tuple[Difference | None, int]:
    """The first difference of one image, in the order of computation, and the number of values compared."""
    pairs = [(name, expected[name], value) for name, value in taps.items()]
    order = {name: place for place, name in enumerate(graph.values)}
    pairs.sort(key=lambda pair: order[pair[0]])
    for (name, way), value in outputs.items():
        label = f"{'logits' if len(graph.outputs) == 1 else name} from {way}"
        pairs.append((label, expected[name], value))
    compared = 0
    for name, want, batch in pairs:
        got = batch[offset]
        if got.shape != want.shape[1:] or got.dtype != want.dtype:
            raise DifferenceError(
                f"{name}: the engine gives {got.dtype} of shape {got.shape}, "
                f"the reference {want.dtype} of shape {want.shape[1:]}"
            )
        compared += got.size
        found = _first_difference(want[0], got)
        if found is not None:
            return Difference(name, image, list(found), want[0][found].item(), got[found].item()), compared
    return None, compared


def _first_difference(want: Array, got: Array) -> tuple[int, ...] | None:
    """Index of the first element whose bits differ: 0.0 and -0.0 do, two equal NaN do not."""
    import numpy as np

    bits = np.dtype(f"u{want.dtype.itemsize}")
    unequal = np.ascontiguousarray(want).view(bits) != np.ascontiguousarray(got).view(bits)
    if not unequal.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(unequal.argmax()), want.shape))
