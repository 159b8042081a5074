"""``nybble doctor``: what this installation and this machine can do."""

from __future__ import annotations

from typing import Any

import typer

from nybble.cli.errors import CommandError
from nybble.cli.model import Json
from nybble.cli.output import plural, print_json


def doctor(as_json: Json = False) -> None:
    """Report the processor, instruction sets, models and optional packages, and what is missing.

    The exit code is 3 if networks cannot run.
    """
    from nybble.doctor import examine

    found = examine()
    if as_json:
        print_json(found)
    else:
        _show(found)
    fatal = [finding["what"] for finding in found["findings"] if finding["is_fatal"]]
    if fatal:
        raise CommandError("; ".join(fatal))


def _show(found: dict[str, Any]) -> None:
    _row("nybble", f"{found['nybble'] or 'not installed as a package'}, Python {found['python']}, {found['system']}")
    if found["processor"]:
        processor, sets = found["processor"], found["instruction_sets"]
        _row("processor", f"{processor['cpu']}, {plural(processor['usable_cpus'], 'usable CPU')}")
        _row("kernels", ", ".join(sets["available"]))
        for isa, lacked in sets["missing"].items():
            _row("", f"not {isa}: the processor lacks {', '.join(lacked)}")
        _row("speed", found["speed"])
    for index, (name, folder) in enumerate(found["models"].items()):
        _row("" if index else "models", f"{name}: {folder or 'not here'}")
    _row("cache", found["cache"])
    for index, (name, extra) in enumerate(found["extras"].items()):
        missing = ", ".join(extra["missing"])
        state = f"missing {missing}; pip install 'nybble[{name}]'" if missing else "installed"
        _row("" if index else "extras", f"{name} ({extra['for']}): {state}")
    for index, (name, value) in enumerate(found["variables"].items()):
        _row("" if index else "variables", f"{name}={value}")
    for finding in found["findings"]:
        _row("PROBLEM", f"{finding['what']}: {finding['remedy']}")
    if not found["findings"]:
        _row("problems", "none")


def _row(head: str, text: str) -> None:
    typer.echo(f"{head:<10} {text}")
