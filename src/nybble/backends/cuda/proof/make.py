"""Makes the bundle of a network: small cases, the network with all expected values, batches that measure speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nybble
from nybble.backends.cuda.plan import make_plan
from nybble.backends.cuda.proof.bundle import Bundle
from nybble.backends.cuda.proof.cases import cases
from nybble.backends.cuda.proof.program import Arrays, record, reference_values
from nybble.backends.cuda.source import source_hash
from nybble.graph import Graph
from nybble.graph.expansion import expand
from nybble.graph.types import Array
from nybble.progress import Progress, silent

#: Batch sizes at which speed is measured.
BATCHES = (1, 8, 32, 128)


def make_bundle(
    graph: Graph,
    x: Array,
    cubins: Mapping[int, bytes],
    about: Mapping[str, Any],
    batches: Sequence[int] = BATCHES,
    progress: Progress = silent,
) -> Bundle:
    """Record the programs, and compute the expected values by the reference: about a second per image.

    Parameters
    ----------
    graph : Graph
    x : array
        Integers (N, C, H, W) as for :meth:`nybble.Engine.run_integer`; N at least 1.
    cubins : mapping
        Machine code by architecture.
    about : mapping
        Values for JSON that describe the network and the images.
    batches : sequence of int
        Batch sizes for speed. Images are repeated to about this size; only the output is checked.
    progress : Progress
    """
    arrays = Arrays()
    small = []
    for number, case in enumerate(cases()):
        progress("cases", number, None)
        preprocessing = case.graph.preprocessing if case.x.dtype == np.float32 else None
        small.append(record(case.name, case.graph, case.x, arrays, case.kernels, preprocessing=preprocessing))
    progress("the reference runs the network", 0, None)
    plan = make_plan(expand(graph), {})
    expected = reference_values(plan, x)
    programs = {"cases": small, "network": [record("network", graph, x, arrays, expected=expected)], "speed": []}
    output = plan.output.value.name
    for images in batches:
        # Whole copies of the images, or the first of them.
        some = x[:images]
        again = max(1, images // len(some))
        wanted = {output: np.concatenate([expected[output][: len(some)]] * again)}
        name = f"batch {len(some) * again}"
        programs["speed"].append(record(name, graph, some, arrays, expected=wanted, keep_first=False, again=again))
    found = {"nybble": nybble.__version__, "source": source_hash(), "images": len(x), **about}
    return Bundle(found, dict(cubins), programs, arrays.found)
