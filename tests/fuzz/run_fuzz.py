"""Fuzz one target by coverage: ``python tests/fuzz/run_fuzz.py TARGET [--inputs N] [--seconds S] [--folder DIR]``.

atheris (libFuzzer) changes inputs and keeps those that reach new code in ``DIR/TARGET``; it starts with those of
``tests/fuzz/corpus/TARGET`` and the target's own seeds. An input that fails is written to ``DIR/TARGET-failed``. The
same command goes on where an earlier one ended.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import warnings
from pathlib import Path

import atheris

HERE = Path(__file__).parent
# Of torch, which is imported below: threads would wait for one another at every layer of a network this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word[:60])  # libFuzzer reads words of at most 64 bytes.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs to run (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=0, help="end after so many seconds; 0: by --inputs only")
    parser.add_argument(
        "--timeout", type=int, default=1200, help="seconds that an input may take (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="corpus and failures")
    parser.add_argument("--merge", action="store_true", help="only reduce the corpus to DIR/TARGET-small")
    arguments = parser.parse_args()

    sys.path.insert(0, str(HERE))
    if "NYBBLE_BUILD" in os.environ:
        sys.path.insert(0, str(HERE.parent / "builds"))
        from tested_build import use

        use()
    with atheris.instrument_imports(include=["nybble", "PIL", "tomllib", "yaml"], enable_loader_override=False):
        from fuzz_target import Target
        from fuzz_targets import TARGETS, open_target

        if arguments.target not in TARGETS:
            parser.error(f"no target {arguments.target!r}; known: {', '.join(TARGETS)}")
        target = open_target(arguments.target)
        for seed in list(target.seeds().values())[:1]:
            target.run(seed)  # Imports what is imported late.
    warnings.simplefilter("ignore")

    corpus, failed = arguments.folder / arguments.target, arguments.folder / f"{arguments.target}-failed"
    for folder in (corpus, failed):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in target.seeds().items():
        (corpus / f"seed-{name}").write_bytes(data)
    folders = [corpus, *([kept] if (kept := HERE / "corpus" / arguments.target).is_dir() else [])]
    words = arguments.folder / f"{arguments.target}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words()))
    options = [
        f"-dict={words}",
        f"-runs={arguments.inputs}",
        f"-max_total_time={arguments.seconds}",
        f"-artifact_prefix={failed}{os.sep}",
        f"-timeout={arguments.timeout}",
        "-rss_limit_mb=4096",
        "-max_len=65536",
        "-print_final_stats=1",
        "-verbosity=1",
        "-close_fd_mask=0",
    ]
    if arguments.merge:
        small = arguments.folder / f"{arguments.target}-small"
        small.mkdir(exist_ok=True)
        folders, options = [small, *folders], [*options, "-merge=1"]

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        changed = target.mutate(data, draw) if draw.random() < 0.8 else data
        return changed if changed != data and len(changed) <= most else atheris.Mutate(data, most)

    own = type(target).mutate is not Target.mutate
    atheris.Setup(
        [sys.argv[0], *options, *map(str, folders)], target.run, **({"custom_mutator": mutated} if own else {})
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
