"""``nybble gpu``: kernels for GPUs, compiled ahead of time."""

from __future__ import annotations

from typing import Annotated

import typer

from nybble.cli.errors import CommandError
from nybble.cli.group import Group
from nybble.cli.model import Json
from nybble.cli.output import print_json

gpu = typer.Typer(
    cls=Group,
    rich_markup_mode="markdown",
    help="Kernels for NVIDIA GPUs: what is compiled, and compiling. No GPU has run them yet.",
    no_args_is_help=True,
)

#: What was checked, by generation of kernels: the least architecture, and how.
_CHECKED = {75: "emulated on the host", 80: "emulated on the host", 90: "emulated on the host"}


@gpu.command(epilog="Example: nybble gpu info")
def info(as_json: Json = False) -> None:
    """List architectures: which are compiled, how their kernels were checked. None of them ran on a GPU yet."""
    from nybble.backends.cuda.cubins import cubin_path
    from nybble.backends.cuda.nvrtc import find_nvrtc
    from nybble.backends.errors import EngineError

    try:
        nvrtc = find_nvrtc()
    except EngineError as error:
        version, why, archs = None, str(error), []
    else:
        version, why, archs = ".".join(map(str, nvrtc.version)), "", nvrtc.architectures()
    rows = [
        {
            "arch": f"sm_{arch}",
            "compiled": nvrtc_path.is_file(),
            "kernels": f"sm_{max(g for g in _CHECKED if g <= arch)}",
            "checked": _CHECKED[max(g for g in _CHECKED if g <= arch)],
            "ran": False,
        }
        for arch in archs
        for nvrtc_path in [cubin_path(arch, nvrtc.version)]
    ]
    if as_json:
        print_json({"nvrtc": version, "architectures": rows})
        return
    typer.echo(f"NVRTC {version}" if version else why)
    for row in rows:
        state = "compiled" if row["compiled"] else "not compiled"
        typer.echo(f"{row['arch']}: {state}; kernels of {row['kernels']}, {row['checked']}; never ran on a GPU")


@gpu.command(name="compile", epilog="Example: nybble gpu compile --arch sm_75")
def compile_(
    arch: Annotated[str, typer.Option("--arch", metavar="sm_NN", help="sm_75 for a T4, sm_89 for an L4.")],
    as_json: Json = False,
) -> None:
    """Compile every kernel for an architecture, and keep the cubin in the cache folder. Needs no GPU."""
    from nybble.backends.cuda.cubins import compile_cubin
    from nybble.backends.cuda.nvrtc import find_nvrtc

    nvrtc = find_nvrtc()
    known = {f"sm_{number}": number for number in nvrtc.architectures()}
    if arch not in known:
        raise CommandError(f"--arch {arch}: this NVRTC compiles for {', '.join(known)}")
    path, compiled = compile_cubin(nvrtc, known[arch])
    if as_json:
        kernels = [{"name": one.name, "registers": one.registers, "spilled": one.spilled} for one in compiled.kernels]
        print_json(
            {
                "arch": arch,
                "nvrtc": ".".join(map(str, nvrtc.version)),
                "bytes": len(compiled.code),
                "file": str(path),
                "kernels": kernels,
            }
        )
        return
    most = max(one.registers for one in compiled.kernels)
    spilled = sum(one.spilled > 0 for one in compiled.kernels)
    typer.echo(
        f"{arch}: {len(compiled.kernels)} kernels, {len(compiled.code):,} bytes, at most {most} registers a thread, "
        f"{spilled} kernels spill; {path}"
    )
