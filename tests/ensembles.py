"""Small ensembles in folders: two networks of six classes, and the file that describes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from nybble.graph import Graph, write_graph
from nybble.synthetic import bottleneck_resnet

#: Logits of random networks are thousands; with this the cascade defers some photos of noise, not all.
HEAT = 20_000.0


def write_ensemble(folder: Path, kind: str = "cascade", image: int = 32, **resizing: Any) -> Path:
    """Write an ensemble.

    Parameters
    ----------
    folder : Path
    kind : str
        ``cascade`` or ``mean``.
    image : int
        Rows and columns that the second member looks at; the first one's are 32.
    resizing
        Fields of the second member's preprocessing.

    Returns
    -------
    Path
        Its TOML file.
    """
    write_member(folder / "net0", 3)
    write_member(folder / "net1", 4, image, **resizing)
    file = folder / "both.toml"
    threshold = "margin_below = 0.03\n" if kind == "cascade" else ""
    file.write_text(
        f'format = "nybble-ensemble/1"\nkind = "{kind}"\n'
        f'[[member]]\nmodel = "net0"\ntemperature = {HEAT}\n{threshold}'
        f'[[member]]\nmodel = "net1"\ntemperature = {HEAT}\nweight = 2.0\n'
    )
    return file


def write_member(folder: Path, seed: int, image: int = 32, **resizing: Any) -> None:
    """Write a network."""
    drawn = bottleneck_resnet(blocks=(1,), width=4, classes=6, image=image, seed=seed)
    assert drawn.preprocessing is not None
    preprocessing = dataclasses.replace(drawn.preprocessing, **resizing)
    write_graph(Graph(drawn.inputs, drawn.nodes, drawn.outputs, preprocessing=preprocessing), folder)
