"""What an installed wheel has to do, run by the Python that it is installed for: ``installed.py PREFIX ISA...``.

``PREFIX`` is where the package has to lie, the rest what ``available_isas`` has to say.
"""

import contextlib
import io
import json
import runpy
import sys
import time
from pathlib import Path

#: Classes of ImageNet that are right.
RIGHT = {"chelsea.png": {281, 282, 285}, "coffee.png": {504, 967, 968}}


def answer(*arguments: str) -> str:
    """What ``python -m nybble`` prints, in this process: emulated, a second one would take a minute."""
    sys.argv = ["nybble", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            runpy.run_module("nybble", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise
    return output.getvalue()


def main() -> None:
    """Exit with a message at the first difference; print what was found otherwise."""
    prefix, *isas = sys.argv[1:]
    started = time.perf_counter()
    photos = json.loads(answer("classify", "--example", "--json"))["photos"]
    seconds = time.perf_counter() - started
    found = {Path(photo["file"]).name: photo["predictions"][0]["index"] for photo in photos}
    if found.keys() != RIGHT.keys() or any(found[name] not in RIGHT[name] for name in RIGHT):
        sys.exit(f"wrong answers: {found}")

    import nybble
    from nybble import _native

    if not Path(_native.__file__).resolve().is_relative_to(Path(prefix).resolve()):
        sys.exit(f"{_native.__file__} is not in {prefix}")
    if _native.available_isas() != isas:
        sys.exit(f"instruction sets {_native.available_isas()}, not {isas}")
    if not (Path(nybble.__file__).parent / "py.typed").is_file():
        sys.exit("py.typed is missing")
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"Python {version}: classify took {seconds:.1f} s, instruction sets {', '.join(isas)}")


if __name__ == "__main__":
    main()
