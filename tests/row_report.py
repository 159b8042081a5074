"""The kernels of the native tables that the tests ran natively, emulated and not at all, from what they recorded.

``python tests/row_report.py FOLDER... [--complete]``; with ``--complete`` it fails where a kernel did not run. Records
of an emulated processor (tests/cross) carry its name: each such processor has a part of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

Row = tuple[str, str]


def read(folders: Iterable[Path]) -> tuple[set[Row], dict[str, set[Row]]]:
    """The table of kernels, and those that ran, by how they ran."""
    known: set[Row] = set()
    ran: dict[str, set[Row]] = {"native": set(), "emulated": set(), "sanitized": set()}
    for file in sorted(file for folder in folders for file in folder.glob("*.json")):
        record = json.loads(file.read_text())
        known |= {(isa, name) for isa, name in record["table"]}
        for how, isa, name in record["compared"]:
            ran.setdefault(how, set()).add((isa, name))
    return known, ran


def lines(rows: Iterable[Row]) -> list[str]:
    """One line for each instruction set."""
    by_isa: dict[str, list[str]] = {}
    for isa, name in sorted(rows):
        by_isa.setdefault(isa, []).append(name)
    return [f"  {isa} ({len(names)}): {', '.join(names)}" for isa, names in by_isa.items()] or ["  none"]


def report(known: set[Row], ran: dict[str, set[Row]]) -> tuple[str, set[Row]]:
    """The text, and the rows that did not run."""
    processors = [how for how in ran if how not in ("native", "emulated", "sanitized")]
    missing = known - ran["native"] - ran["emulated"] - set().union(*(ran[how] for how in processors))
    text = [f"kernel rows whose results were compared with the reference, of {len(known)}"]
    for title, rows in (
        ("natively", ran["native"]),
        ("emulated", ran["emulated"]),
        *((f"on {how}", ran[how]) for how in processors),
        ("not at all", missing),
    ):
        text += [f"{title}: {len(rows)}", *lines(rows)]
    text.append(f"under sanitizers: {len(ran['sanitized'])}")
    return "\n".join(text), missing


def main(arguments: list[str] | None = None) -> int:
    """Print the report; 1 where it must be complete and is not, 2 where nothing was recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--complete", action="store_true", help="fail where a row did not run")
    options = parser.parse_args(arguments)
    known, ran = read(options.folders)
    if not known:
        names = ", ".join(map(str, options.folders))
        print(f"rows: no test recorded any in {names}; run the tests with NYBBLE_ROWS", file=sys.stderr)
        return 2
    text, missing = report(known, ran)
    print(text)
    if missing and options.complete:
        print(f"rows: {len(missing)} ran neither natively nor emulated", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
