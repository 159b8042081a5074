"""``nybble gpu``: lists GPUs, compiles kernels for them, and writes bundles that test a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.coercion import Command
from nybble.cli.errors import CommandError
from nybble.cli.group import Group
from nybble.cli.model import Json, Model
from nybble.cli.output import print_json
from nybble.cli.photos import Exif, OptionalImages, SomeLimit, end, inputs_of, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.backends.cuda.nvrtc import Nvrtc

gpu = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="Kernels for NVIDIA GPUs: list, compile, and write a bundle that tests a GPU. No GPU has run them yet.",
    no_args_is_help=True,
)

#: Architectures whose own PTX is interpreted by the tests, or equals that of one that is.
_INTERPRETED = (75, 80, 86, 89, 90)


@gpu.command(cls=Command, short_help="List GPUs, architectures and checks.", epilog="Example: nybble gpu info")
def info(as_json: Json = False) -> None:
    """List the GPUs of this machine, the architectures that are compiled, and how their kernels were checked.

    No kernel has run on a GPU yet.
    """
    from nybble.backends.cuda.cubins import cubin_path
    from nybble.backends.cuda.device import generation_of
    from nybble.backends.cuda.gpu import list_gpus
    from nybble.backends.cuda.nvrtc import find_nvrtc
    from nybble.backends.errors import EngineError

    try:
        nvrtc = find_nvrtc()
    except EngineError as error:
        version, why, archs = None, str(error), []
    else:
        version, why, archs = ".".join(map(str, nvrtc.version)), "", nvrtc.architectures()
    try:
        gpus, why_none = list_gpus(), ""
    except EngineError as error:
        gpus, why_none = [], str(error)
    rows = [
        {
            "arch": f"sm_{arch}",
            "compiled": nvrtc_path.is_file(),
            "kernels": f"sm_{generation_of(arch)}",
            "checked": _checked(arch),
            "ran": False,
        }
        for arch in archs
        for nvrtc_path in [cubin_path(arch, nvrtc.version)]
    ]
    if as_json:
        named = [{"name": name, "arch": f"sm_{arch}"} for name, arch in gpus]
        print_json({"gpus": named, "nvrtc": version, "architectures": rows})
        return
    for name, arch in gpus:
        typer.echo(f"GPU {name}, sm_{arch}")
    if not gpus:
        typer.echo(why_none)
    typer.echo(f"NVRTC {version}" if version else why)
    for row in rows:
        state = "compiled" if row["compiled"] else "not compiled"
        typer.echo(f"{row['arch']}: {state}; kernels of {row['kernels']}, {row['checked']}; never ran on a GPU")


def _checked(arch: int) -> str:
    """How the kernels of an architecture were checked without a GPU."""
    from nybble.backends.cuda.device import generation_of

    generation = generation_of(arch)
    if arch in _INTERPRETED:
        return f"source emulated as sm_{generation}, PTX interpreted"
    return f"source emulated as sm_{generation}, PTX not interpreted"


@gpu.command(
    name="compile",
    cls=Command,
    short_help="Compile every kernel for an architecture.",
    epilog="Example: nybble gpu compile --arch sm_75",
)
def compile_(
    arch: Annotated[str, typer.Option("--arch", metavar="sm_NN", help="sm_75 for a T4, sm_89 for an L4.")],
    as_json: Json = False,
) -> None:
    """Compile every kernel for an architecture, and store the cubin in the cache folder. Needs no GPU."""
    from nybble.backends.cuda.cubins import compile_cubin
    from nybble.backends.cuda.nvrtc import find_nvrtc

    nvrtc = find_nvrtc()
    path, compiled = compile_cubin(nvrtc, _number(nvrtc, arch))
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
        f"{arch}: {len(compiled.kernels)} kernels, {len(compiled.code):,} bytes, at most {most} registers per thread, "
        f"{spilled} kernels spill; {path}"
    )


#: Default architectures of a bundle, if the compiler supports them.
_BUNDLED = (75, 80, 86, 89, 90, 100, 120)
#: The default of --limit. Every step of each photo is checked; the reference takes about a second per photo.
_PHOTOS = 4


@gpu.command(
    cls=Command,
    short_help="Write a file that tests a GPU.",
    epilog="Example: nybble gpu bundle nvidia-resnet50-int4 --images photos --out resnet50.bundle",
)
def bundle(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The bundle to write.", show_default=False)],
    model: Model = None,
    images: OptionalImages = None,
    limit: SomeLimit = _PHOTOS,
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", metavar="sm_NN", help="May be repeated.", show_default="all that NVRTC supports"),
    ] = None,
    exif: Exif = False,
    as_json: Json = False,
) -> None:
    """Write a bundle that tests a GPU: kernels, the network, and the expected values of each step on photos.

    Needs no GPU. tests/gpu/on_device.sh runs the bundle on a GPU; it needs NumPy, cuda-core and cuda-bindings.
    """
    from nybble.backends.cuda.cubins import cubin_for
    from nybble.backends.cuda.nvrtc import find_nvrtc
    from nybble.backends.cuda.proof.bundle import BUNDLE
    from nybble.backends.cuda.proof.make import make_bundle
    from nybble.files import check_free
    from nybble.graph import read_graph
    from nybble.models import find

    check_free(out, BUNDLE)
    chosen = find(model)
    graph = read_graph(chosen.path)
    inputs, left_out = inputs_of(graph, images, limit, exif)
    nvrtc = find_nvrtc()
    archs = [_number(nvrtc, one) for one in arch or ()] or [one for one in nvrtc.architectures() if one in _BUNDLED]
    report_left_out(left_out)
    about = {
        "model": chosen.name,
        "inputs": "photos" if images else "noise",
        "nvrtc": ".".join(map(str, nvrtc.version)),
    }
    with one_bar() as progress:
        cubins = {}
        for number, one in enumerate(archs):
            progress("compiling", number, len(archs))
            cubins[one] = cubin_for(one)
        size = make_bundle(graph, inputs, cubins, about, progress=progress).save(out)
    names = [f"sm_{one}" for one in archs]
    if as_json:
        print_json({**about, "images": len(inputs), "architectures": names, "bytes": size, "file": str(out)})
    else:
        typer.echo(f"{out}: {size / 2**20:.1f} MiB; {chosen.name}, {len(inputs)} images; {', '.join(names)}")
    end(left_out)


def _number(nvrtc: Nvrtc, arch: str) -> int:
    """The number of an architecture. Raises :class:`CommandError` if the compiler does not support it."""
    known = {f"sm_{number}": number for number in nvrtc.architectures()}
    if arch not in known:
        raise CommandError(f"--arch {arch}: this NVRTC compiles for {', '.join(known)}")
    return known[arch]
