"""A call allocates its result and nothing else, whatever the batch: counted inside malloc."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: Counts what is asked of the allocator by every thread, between two calls of ``counted``.
COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_long calls, bytes;
static void count(size_t size) { atomic_fetch_add(&calls, 1); atomic_fetch_add(&bytes, (long)size); }

void *malloc(size_t size) { count(size); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { count(n * size); return __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { count(size); return __libc_realloc(p, size); }
void *memalign(size_t a, size_t size) { count(size); return __libc_memalign(a, size); }
void *aligned_alloc(size_t a, size_t size) { count(size); return __libc_memalign(a, size); }
int posix_memalign(void **p, size_t a, size_t size) { count(size); *p = __libc_memalign(a, size); return *p ? 0 : 12; }
void *mmap(void *at, size_t size, int protection, int flags, int file, long offset) {
  static void *(*real)(void *, size_t, int, int, int, long);
  if (!real) real = (void *(*)(void *, size_t, int, int, int, long))dlsym(RTLD_NEXT, "mmap");
  count(size);
  return real(at, size, protection, flags, file, offset);
}

long counted_calls(void) { return atomic_exchange(&calls, 0); }
long counted_bytes(void) { return atomic_exchange(&bytes, 0); }
"""

PROGRAM = r"""
import ctypes, gc, sys
import numpy as np
from nybble import _native
from nybble.engine import Engine
from nybble.synthetic import bottleneck_resnet

counter = ctypes.CDLL(sys.argv[1])
classes = 1000  # results that come from malloc
graph = bottleneck_resnet(blocks=(1, 1), width=16, classes=classes, image=40, seed=3)
photos = np.random.default_rng(5).integers(0, 256, (9, 40, 40, 3), dtype=np.uint8)
gc.disable()

def least(call, runs):
    # The interpreter allocates now and then for itself: what a call allocates is there in every series.
    series = []
    for _ in range(5):
        counter.counted_calls(), counter.counted_bytes()
        for _ in range(runs):
            call()
        series.append((counter.counted_calls(), counter.counted_bytes()))
    return min(series)

for isa in _native.available_isas():
    for threads in (1, 3):
        engine = Engine(graph, threads=threads, isa=isa)
        for images in (1, 2, 9):
            some, runs = np.ascontiguousarray(photos[:images]), 20
            for _ in range(3):
                result = engine(some)
            found = least(lambda: engine(some), runs)
            assert found == (runs, runs * result.nbytes), (isa, threads, images, found)

            # The native part, with the result given: nothing at all.
            table = graph.preprocessing.table().view(np.uint8)
            out, program = result.reshape(-1).view(np.uint8), engine._executable._built.program
            program.run_samples(some, table, out)
            found = least(lambda: program.run_samples(some, table, out), runs)
            assert found == (0, 0), (isa, threads, images, found)
        engine.close()
"""


@pytest.mark.skipif("NYBBLE_SANITIZED" in os.environ, reason="sanitizers bring an allocator of their own")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stands in for glibc's allocator")
def test_a_call_allocates_its_result_only(tmp_path: Path) -> None:
    # Where this processor is emulated, "cc" makes code for another.
    compilers = (f"{platform.machine()}-linux-gnu-gcc", "cc", "gcc", "clang")
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    environment = {**os.environ, "LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1", "NYBBLE_TUNED": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, library], env=environment, capture_output=True, text=True, timeout=300
    )
    if "__libc_" in ran.stderr:
        pytest.skip("the C library is not glibc")
    assert ran.returncode == 0, ran.stderr
