"""An exported model in ONNX Runtime beside the engine: `onnx_agreement.py MODEL --images DIR [--form exact]`.

Prints on how many photos both have the same top-1 class and the same logits, and every photo whose class differs, with
the margin: by how much the engine's logit of its own class exceeds that of ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from rich.progress import track

from nybble import Engine
from nybble.bench.agreement import open_session
from nybble.graph import read_graph
from nybble.graph.convert import to_bits
from nybble.graph.onnx import to_onnx
from nybble.images import LabelledFolder, batches


def main() -> None:
    """Export, run both on every photo, print figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="with a labels.csv")
    parser.add_argument("--every", type=int, default=1, help="take every so many photos")
    parser.add_argument("--form", choices=["qdq", "exact"], default="qdq")
    parser.add_argument("--bits", type=int, choices=[4, 8], default=4, help="8: the model converted to 8 bits")
    parser.add_argument("--plain", action="store_true", help="without ONNX Runtime's graph optimisations")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    graph = read_graph(arguments.model)
    if arguments.bits == 8:
        graph = to_bits(graph, 8)
    preprocessing = graph.preprocessing
    if preprocessing is None:
        raise SystemExit(f"{arguments.model}: has no preprocessing, so it takes no photos")
    model = to_onnx(graph, arguments.form).model.SerializeToString()
    session = open_session(model, threads=arguments.threads, is_optimised=not arguments.plain)
    name = session.get_inputs()[0].name
    listed = LabelledFolder(arguments.images)[:: arguments.every]
    flips, equal = [], 0
    with Engine(graph, threads=arguments.threads) as engine:
        source = zip(listed, batches(listed, preprocessing, batch=1), strict=True)
        for photo, (samples, _) in track(source, "photos", total=len(listed)):
            ours = engine(samples).reshape(-1)
            entry = preprocessing.normalise(samples)
            if arguments.form == "exact":
                entry = preprocessing.quantize(entry)
            theirs = session.run(None, {name: np.ascontiguousarray(entry.transpose(0, 3, 1, 2))})[0].reshape(-1)
            equal += bool(np.array_equal(ours, theirs))
            if ours.argmax() != theirs.argmax():
                flips.append(
                    {
                        "file": photo.file,
                        "engine": int(ours.argmax()),
                        "onnxruntime": int(theirs.argmax()),
                        "margin": float(ours.max() - ours[theirs.argmax()]),
                    }
                )
    found = {
        "model": str(arguments.model),
        "bits": arguments.bits,
        "form": arguments.form,
        "optimised": not arguments.plain,
        "onnxruntime": onnxruntime.__version__,
        "photos": len(listed),
        "same_top1": len(listed) - len(flips),
        "all_logits_equal": equal,
        "flips": flips,
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
