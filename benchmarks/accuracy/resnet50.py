"""ResNet-50 v1.5 in 4 bits: the published INT4 network as a float one, calibrated anew; ``models/resnet50``.

``python benchmarks/accuracy/resnet50.py network final``.

The directory becomes a float network that clips where the integer one does; its clips are part of its function. All
scales and shifts are then forgotten, and found again by calibration. This is ``clips`` of ``round_trip.py`` without the
random factors. Calibrated on rows of imagenet-1k-one-each whose index is no multiple of 5; the others are the selection
set.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from engine_module import EngineModule
from records import DATA, WORK, Progress, figures, stage
from round_trip import MODEL, clipping, forget

from nybble.graph import read_graph, write_graph
from nybble.graph.convert import to_bits
from nybble.quantize import CalibrationConfig, calibrate, convert, from_graph, snap_steps
from nybble.quantize.data import FilePhotos, batches, every
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.train.evaluate import evaluate, preprocessing_of

FOLDER = WORK / "resnet50"
CALIBRATION = CalibrationConfig(
    method="percentile", percentile=99.999, weights="mse", images=192, batch=16, workers=0, seed=0
)


def float_network() -> tuple[QuantizedNetwork, QuantizedNetwork]:
    """The published network in floating point, with its clips; and the same modules without clips, to be calibrated."""
    plain = from_graph(read_graph(MODEL))
    clipped, _ = clipping(plain)
    clipped.set_mode("float")
    clipped.eval()
    return clipped, plain


def network() -> dict[str, Any]:
    """Calibrate, convert and keep; answers of the engine on the selection set, beside those of the float network."""
    photos = FilePhotos(DATA / "imagenet-1k-one-each")
    training, selection = every(photos, 5, rest=True), every(photos, 5)
    clipped, plain = float_network()
    preprocessing = preprocessing_of(plain)
    reference = evaluate(clipped, selection, preprocessing, batch=20)
    forget(plain)
    clipped.set_mode("float")
    report = calibrate(clipped, batches(training, preprocessing, CALIBRATION), CALIBRATION, progress=Progress())
    # Calibration has done it already, but does not see through the clips. It makes all shifts 16, which is faster.
    snap_steps(plain)
    plain.set_mode("quantize")
    made, conversion = convert(plain)
    write_graph(made, FOLDER / "network")
    answers = evaluate(EngineModule(made), selection, preprocessing, batch=20)
    return {
        "selection_float": figures(reference) | {"loss": reference.loss},
        "selection": figures(answers, reference) | {"loss": answers.loss},
        "calibration": report.config.model_dump(mode="json"),
        "rescale_error": conversion.largest_error,
        "bytes": sum(file.stat().st_size for file in (FOLDER / "network").rglob("*") if file.is_file()),
    }


def final() -> dict[str, Any]:
    """photos-500, once: the float network, the network, its 8-bit form, and the published directory."""
    photos = FilePhotos(DATA / "photos-500")
    clipped, _ = float_network()
    graph = read_graph(FOLDER / "network")
    reference = evaluate(clipped, photos, graph.preprocessing, batch=20, progress=Progress())
    found: dict[str, Any] = {"float": figures(reference)}
    forms = {"network": graph, "int8": to_bits(graph, 8), "published": read_graph(MODEL)}
    for name, form in forms.items():
        answers = evaluate(EngineModule(form), photos, graph.preprocessing, batch=20)
        found[name] = figures(answers, reference)
    return found


STAGES = {"network": network, "final": final}


def main(names: list[str]) -> None:
    """Run the stages named."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        stage(f"resnet50/{name}", STAGES[name])


if __name__ == "__main__":
    main(sys.argv[1:])
