"""``nybble pack``: a model folder as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.errors import WrongUsageError
from nybble.cli.model import Json
from nybble.cli.output import print_json


def pack(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder, or the name of a model.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write, such as mine.zip.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Pack a model folder into one file, which every command and `nybble.load` take as MODEL.

    The file is a zip archive with the names of the folder, and a README, LICENSE or NOTICE beside `model/`. The same
    folder gives the same bytes.
    """
    from nybble.files import ARCHIVE, check_free, write
    from nybble.graph import read_graph
    from nybble.graph.archive import packed
    from nybble.models import locate

    place = locate(model)
    if not place.is_dir():
        raise WrongUsageError(f"{model}: is a file already; name a model folder")
    check_free(out, ARCHIVE)
    read_graph(place)  # A folder that cannot be read is not packed.
    content = packed(place)
    write(out, content, ARCHIVE)
    if as_json:
        print_json({"model": model, "file": str(out), "bytes": len(content)})
        return
    typer.echo(f"{out}: {len(content) / 1e6:.2f} MB")
