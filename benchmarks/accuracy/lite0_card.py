"""Fill the figures of the card ``models/efficientnet-lite0/README.md`` from the network itself and the accuracy runs.

``python benchmarks/accuracy/lite0_card.py [--row TITLE=NAME ...]``: NAME is a stage of ``lite0.py``, whose figures lie
in ``NAME.json`` (selection) and ``final.json`` (photos-500). The row titled ``this network`` gets what the shipped
directory says of its types and size.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records import WORK, show

from nybble.demo.show import constant_bytes
from nybble.files import OWN, write_text
from nybble.graph import Conv2d, DType, Graph, Linear, read_graph
from nybble.graph.macs import four_bit_share

FOLDER = Path(__file__).resolve().parents[2] / "models" / "efficientnet-lite0"
THIS = "this network"
ROWS = ("float=float", "8-bit=w8a8", f"{THIS}=mixed-s8-whole", "all 4-bit=w4a4")
_BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def top1(found: dict[str, Any] | None) -> str:
    """Top-1 with right answers and interval, as ``records.figures`` has them."""
    if found is None:
        return "not run"
    low, high = found["interval"]
    return f"{found['top1']:.1f} % ({found['right']} of {found['images']}; {low:.1f} to {high:.1f})"


def difference(found: dict[str, Any] | None) -> str:
    """Points against the float network, with interval and discordant pairs."""
    pairs = (found or {}).get("against_float")
    if pairs is None:
        return ""
    low, high = pairs["interval"]
    return (
        f"{pairs['points']:+.1f} ({low:+.1f} to {high:+.1f}); {pairs['only_float_right']} / {pairs['only_this_right']}"
    )


def layers(graph: Graph) -> str:
    """Which layers do not have 4 bits on both sides, by the types of their input and weight."""
    heads = [node for node in graph if isinstance(node, Conv2d | Linear)]
    other: dict[str, list[str]] = {}
    for node in heads:
        if node.weight.dtype is not DType.S4 or node.input_type not in (DType.U4, DType.S4):
            depthwise = isinstance(node, Conv2d) and node.groups == node.weight.shape[0] > 1
            kind = f"{node.input_type.value} x {node.weight.dtype.value}"
            other.setdefault(kind, []).append("depthwise" if depthwise else f"`{node.name}`")
    described = []
    for kind, names in other.items():
        counted = [f"{count} depthwise"] if (count := names.count("depthwise")) else []
        described.append(f"{kind}: {', '.join(counted + [name for name in names if name != 'depthwise'])}")
    four = len(heads) - sum(map(len, other.values()))
    return (
        f"{four} of {len(heads)} layers, {four_bit_share(graph):.1%} of the multiply-accumulates, have 4-bit inputs "
        f"and weights. The others, input by weight: {'; '.join(described) or 'none'}."
    )


def block(rows: Sequence[str], work: Path) -> str:
    """The table and what follows it."""
    graph = read_graph(FOLDER)
    final = read(work / "final.json") or {}
    lines = ["| network | constants | selection, top-1 | photos-500, top-1 | against float |", "|---|---|---|---|---|"]
    for row in rows:
        title, _, name = row.partition("=")
        stage = read(work / f"{name}.json") or {}
        # Every stage has measured the float network on the selection set too.
        selection = stage.get("selection") or (read(work / "w8a8.json") or {}).get("selection_float")
        size = ""
        if title == THIS:
            size = f"{constant_bytes(graph) / 1e6:.2f} MB"
        elif (work / name / "model").is_dir():
            size = f"{constant_bytes(read_graph(work / name)) / 1e6:.2f} MB"
        if name != "float" and not stage:
            selection = None
        cells = (title, size, top1(selection), top1(final.get(name)), difference(final.get(name)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join((*lines, "", layers(graph)))


def read(path: Path) -> dict[str, Any] | None:
    """A stage's figures, ``None`` where it was not run."""
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite the block of figures, and nothing else of the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", action="append", metavar="TITLE=NAME", help=f"default: {', '.join(ROWS)}")
    parser.add_argument("--work", type=Path, default=WORK / "lite0", help="folder of the stages' figures")
    given = parser.parse_args(arguments)
    card = FOLDER / "README.md"
    figures = block(given.row or ROWS, given.work)
    text, count = _BLOCK.subn(lambda found: f"{found[1]}{figures}\n{found[2]}", card.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{card}: expected one block of figures, between comments, found {count}")
    write_text(card, text, OWN)
    show(figures)


if __name__ == "__main__":
    main()
