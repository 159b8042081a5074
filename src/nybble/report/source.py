"""The folders of a report: every file in them that a command of nybble wrote, found by its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from nybble.report.errors import ReportError
from nybble.report.records import (
    Bench,
    Calibration,
    EnsembleCalibration,
    Evaluation,
    Profile,
    Quantization,
    Record,
    TaskEvaluation,
    read_record,
)
from nybble.report.submission import Scenario, find_layouts, read_scenarios

#: What a folder may hold, and the command that makes it.
MAKERS = {
    "speed and memory": "nybble bench MODEL --output FILE",
    "the roofline": "nybble bench MODEL --ceilings --output FILE",
    "accuracy": "nybble evaluate MODEL --images DIR --json > FILE",
    "time of each layer": "nybble profile MODEL --json > FILE",
    "calibration": "nybble quantize SOURCE --images DIR --out OUT --report DIR",
    "ensembles": "nybble calibrate-ensemble MEMBER MEMBER --images DIR --out FILE --report DIR",
    "MLPerf scenarios": "nybble mlperf run MODEL --images DIR --out DIR",
}
R = TypeVar("R")


@dataclass(frozen=True)
class Named(Generic[R]):
    """A document, with the label that distinguishes it from others on the page (empty if it is the only one)."""

    label: str
    file: str
    source: str
    record: R


@dataclass
class Source:
    """A folder: its documents by kind, the files that were read, and those that nybble did not write."""

    label: str
    path: Path
    records: dict[str, Record] = field(default_factory=dict)
    scenarios: list[tuple[str, Scenario]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Material:
    """The material of a page."""

    sources: Sequence[Source]
    benches: Sequence[Named[Bench]]
    evaluations: Sequence[Named[Evaluation]]
    profiles: Sequence[Named[Profile]]
    calibrations: Sequence[Named[Calibration]]
    quantizations: Sequence[Named[Quantization]]
    scenarios: Sequence[Named[Scenario]]
    ensembles: Sequence[Named[EnsembleCalibration]] = ()
    tasks: Sequence[Named[TaskEvaluation]] = ()


def read_material(folders: Sequence[Path]) -> Material:
    """Read every folder.

    Raises
    ------
    ReportError
        Where one is not a folder, has nothing of nybble, or has a file that is damaged; files are named.
    """
    labels = _labels(folders)
    sources = [_read(path, label) for path, label in zip(folders, labels, strict=True)]
    several = len(sources) > 1
    return Material(
        sources,
        _named(sources, Bench, several),
        _named(sources, Evaluation, several),
        _named(sources, Profile, several),
        _named(sources, Calibration, several),
        _named(sources, Quantization, several),
        _scenarios(sources, several),
        _named(sources, EnsembleCalibration, several),
        _named(sources, TaskEvaluation, several),
    )


def _read(path: Path, label: str) -> Source:
    if not path.is_dir():
        raise ReportError(f"{path}: is not a folder; name one that holds what nybble has measured")
    source = Source(label, path)
    layouts = find_layouts(path.absolute())
    trees = [layout.base for layout in layouts]
    for layout in layouts:
        source.scenarios += [(str(layout.out), scenario) for scenario in read_scenarios(layout)]
    seen: set[bytes] = set()
    for file in _files(path):
        if any(file.absolute().is_relative_to(tree) for tree in trees):
            continue
        name = str(file.relative_to(path))
        record = None
        if file.suffix == ".json":
            content = _content(file)
            digest = hashlib.sha256(content).digest()
            record = read_record(file, content)
            if record is not None and digest in seen:  # `quantize` puts its result beside the model and in its report.
                continue
            seen.add(digest)
        if record is None:
            source.ignored.append(name)
        else:
            source.records[name] = record
    if not source.records and not source.scenarios:
        wanted = "; ".join(f"{what} (`{command}`)" for what, command in MAKERS.items())
        raise ReportError(f"{path}: has nothing to report on among {len(source.ignored)} files; looked for {wanted}")
    return source


def _files(path: Path) -> Iterator[Path]:
    """All files, in order of name; hidden ones are not nybble's results, or not whole yet."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror or error}") from error


def _labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of their parents' as it takes to tell them apart."""
    parts = [Path(os.path.realpath(path)).parts for path in folders]
    if len(set(parts)) < len(parts):
        raise ReportError("a folder is named twice; name each once")
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


def _named(sources: Sequence[Source], kind: type[R], several: bool) -> list[Named[R]]:
    found: list[Named[R]] = []
    for source in sources:
        files = {name: record for name, record in source.records.items() if isinstance(record, kind)}
        for name, record in files.items():
            stem = name.removesuffix(".json") if len(files) > 1 else ""
            label = ": ".join(part for part in (source.label if several else "", stem) if part)
            found.append(Named(label, f"{source.label}/{name}" if several else name, source.label, record))
    return found


def _scenarios(sources: Sequence[Source], several: bool) -> list[Named[Scenario]]:
    found = []
    for source in sources:
        trees = {(out, scenario.system) for out, scenario in source.scenarios}
        for out, scenario in source.scenarios:
            tree = os.path.relpath(out, source.path.absolute())
            inside = [] if len(trees) == 1 else [tree] if len({place for place, _ in trees}) > 1 else [scenario.system]
            label = ": ".join([*([source.label] if several else []), *(part for part in inside if part != ".")])
            found.append(Named(label, tree, source.label, scenario))
    return found
