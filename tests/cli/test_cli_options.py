"""Options that commands have in common mean the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nybble.cli.commands import COMMANDS, imported

#: Servers print no result.
WITHOUT_JSON = {"serve"}


def every_command() -> Iterator[tuple[str, Any]]:
    for name in COMMANDS:
        command = imported(name)
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {part}", found) for part, found in inner.items()) if inner else [(name, command)]


EVERY = dict(every_command())


def parameter(name: str, option: str) -> Any:
    return next((found for found in EVERY[name].params if option in found.opts), None)


@pytest.mark.parametrize("name", EVERY)
def test_json_is_a_flag(name: str) -> None:
    found = parameter(name, "--json")
    assert (found is None) == (name in WITHOUT_JSON)
    assert found is None or (found.is_flag and found.help == "Print JSON, and nothing else, on standard output.")


@pytest.mark.parametrize("name", [name for name in EVERY if parameter(name, "--threads")])
def test_threads_are_one_for_each_processor(name: str) -> None:
    found = parameter(name, "--threads")
    assert found.default is None and found.show_default == "one per core"


@pytest.mark.parametrize("name", [name for name in EVERY if parameter(name, "--output")])
def test_files_of_results_are_named_by_output(name: str) -> None:
    # Of `quantize` and `import`, it names an output of the network.
    expected = "NAME" if name in ("quantize", "import") else "FILE"
    assert parameter(name, "--output").metavar == expected


@pytest.mark.parametrize("name", EVERY)
def test_usage_has_no_brackets_but_those_of_the_arguments(name: str, run: Any) -> None:
    usage = " ".join(run(*name.split(), "--help").stdout.split("\n\n")[0].split())
    arguments = [found.metavar for found in EVERY[name].params if found.param_type_name == "argument"]
    given = "".join(f" {metavar}" for metavar in arguments if metavar)
    assert usage == f"Usage: nybble {name} [OPTIONS]{given}"
