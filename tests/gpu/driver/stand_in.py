"""A driver of NVIDIA GPUs that the emulator stands behind: real cuda-core and cuda-bindings run on it.

Work is as late as it may be: what a stream was asked for happens when somebody waits for it. A program that reads,
writes or gives back memory before it has waited then goes wrong here, as it might on a GPU. It knows the calls that
the backend needs, and no others.
"""

# ruff: noqa: N802, N815 - names are the driver's

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p, cast
from pathlib import Path
from typing import Any

SUCCESS, INVALID, NOT_FOUND, NOT_READY, LAUNCH_FAILED = 0, 1, 500, 600, 719
#: Numbers of CUdevice_attribute.
MAJOR, MINOR, POOLS, ADDRESSING = 75, 76, 115, 41
PRIMARY_CONTEXT = 0xC0


class Stream:
    """What is still to be done, in order, and the graph that it is captured into."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.graph = 0

    def add(self, work: Callable[[], None]) -> None:
        (self.work if self.captured is None else self.captured).append(work)

    def drain(self) -> None:
        while self.work:
            self.work.pop(0)()


class Event:
    """Passed when everything before it on its stream is done; the clock counts launches."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.passed: int | None = None

    def wait(self) -> None:
        while self.passed is None and self.stream is not None and self.stream.work:
            self.stream.work.pop(0)()


class Driver:
    """Keeps everything that has a handle; functions are its methods, by their names in the driver.

    Attributes
    ----------
    asked : list of str
        Names of all functions that were called, in order.
    faults : list of Exception
        What the emulator, or the stand-in, found wrong: the driver can only answer with a number.
    launches : list of tuple
        Kernel, grid, threads and shared bytes of all launches that ran.
    """

    def __init__(self, emulator: Any, generation: int, arch: int, has_pools: bool = True) -> None:
        self.emulator, self.generation, self.arch, self.has_pools = emulator, generation, arch, has_pools
        self.model = "stand-in"
        self.asked: list[str] = []
        self.launches: list[tuple[str, tuple[int, int, int], tuple[int, int, int], int]] = []
        self.faults: list[Exception] = []
        # CU_STREAM_LEGACY, which memory is given back on.
        self.handles: dict[int, Any] = {1: Stream()}
        self.device_memory: set[int] = set()
        self.seconds_of: dict[str, float] = {}
        self.clock = 0.0
        self._next = 0x1000
        self._keep: dict[str, Any] = {}

    def load(self, folder: Path, compiler: str) -> None:
        """Build the library and load it, so that cuda-bindings finds it in this process."""
        source, library = Path(__file__).with_name("lookup.c"), folder / "libcuda.so.1"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source],
            check=True,
        )
        loaded = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        lookup = ctypes.CFUNCTYPE(c_int, c_char_p, POINTER(c_void_p), c_int, c_uint64, POINTER(c_int))(self._find)
        self._keep["lookup"] = lookup, loaded
        c_void_p.in_dll(loaded, "nybble_lookup").value = cast(lookup, c_void_p).value

    def _find(self, symbol: bytes, found: Any, version: int, flags: int, status: Any) -> int:
        name = symbol.decode()
        types = FUNCTIONS.get(name)
        if types is None:
            found[0] = None
            return NOT_FOUND
        if name not in self._keep:
            self._keep[name] = ctypes.CFUNCTYPE(c_int, *types)(self._checked(name))
        found[0] = cast(self._keep[name], c_void_p).value
        return SUCCESS

    def _checked(self, name: str) -> Callable[..., int]:
        method = getattr(self, name, None)

        def called(*arguments: Any) -> int:
            self.asked.append(name)
            try:
                return SUCCESS if method is None else method(*arguments) or SUCCESS
            except Exception as error:
                self.faults.append(error)
                return LAUNCH_FAILED

        return called

    def _new(self, value: Any) -> int:
        self._next += 16
        self.handles[self._next] = value
        return self._next

    # The GPU.

    def cuDriverGetVersion(self, version: Any) -> None:
        version[0] = 13020

    def cuDeviceGetCount(self, count: Any) -> None:
        count[0] = 1

    def cuDeviceGet(self, device: Any, ordinal: int) -> None:
        device[0] = ordinal

    def cuDeviceGetName(self, name: Any, length: int, device: int) -> None:
        text = self.model.encode() + b"\0"
        ctypes.memmove(name, text, min(len(text), length))

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> None:
        value[0] = {MAJOR: self.arch // 10, MINOR: self.arch % 10, POOLS: int(self.has_pools), ADDRESSING: 1}.get(
            attribute, 0
        )

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:
        context[0] = PRIMARY_CONTEXT

    def cuCtxGetCurrent(self, context: Any) -> None:
        context[0] = PRIMARY_CONTEXT

    def cuGetErrorName(self, error: int, name: Any) -> None:
        name[0] = ctypes.cast(self._text(f"CUDA_ERROR_{error}"), c_void_p).value

    cuGetErrorString = cuGetErrorName

    def _text(self, text: str) -> Any:
        return self._keep.setdefault(text, ctypes.create_string_buffer(text.encode()))

    def cuCtxGetDevice(self, device: Any) -> None:
        device[0] = 0

    def cuCtxGetStreamPriorityRange(self, least: Any, greatest: Any) -> None:
        least[0] = greatest[0] = 0

    # Memory: device addresses are the emulator's, pinned memory is the host's.

    def cuMemAlloc(self, address: Any, count: int) -> None:
        found = self.emulator.allocate(count)
        self.device_memory.add(found)
        self.handles[found] = count
        address[0] = found

    def cuMemAllocFromPoolAsync(self, address: Any, count: int, pool: int, stream: int) -> None:
        self._stream(stream)
        self.cuMemAlloc(address, count)

    def cuMemFreeAsync(self, address: int, stream: int) -> None:
        self._stream(stream).add(lambda: self._release(address))

    def cuDeviceGetMemPool(self, pool: Any, device: int) -> None:
        pool[0] = self._new("pool")

    cuDeviceGetDefaultMemPool = cuDeviceGetMemPool

    def cuMemFree(self, address: int) -> None:
        for stream in self._streams():
            stream.drain()
        self._release(address)

    def _release(self, address: int) -> None:
        self.device_memory.remove(address)
        self.emulator.release(address)

    def cuMemAllocHost(self, address: Any, count: int) -> None:
        memory = ctypes.create_string_buffer(count)
        self.handles[ctypes.addressof(memory)] = memory
        address[0] = ctypes.addressof(memory)

    def cuMemFreeHost(self, address: int) -> None:
        del self.handles[address]

    def cuMemcpyAsync(self, to: int, source: int, count: int, stream: int) -> None:
        self._stream(stream).add(lambda: self._copy(to, source, count))

    def _is_device(self, address: int) -> bool:
        return any(first <= address < first + self.handles[first] for first in self.device_memory)

    def _copy(self, to: int, source: int, count: int) -> None:
        import numpy as np

        data = np.empty(count, np.uint8)
        if self._is_device(source):
            self.emulator.read(source, data)
        else:
            ctypes.memmove(data.ctypes.data, source, count)
        if self._is_device(to):
            self.emulator.write(to, data)
        else:
            ctypes.memmove(to, data.ctypes.data, count)

    # Streams and events.

    def _streams(self) -> list[Stream]:
        return [one for one in self.handles.values() if isinstance(one, Stream)]

    def _stream(self, handle: int) -> Stream:
        found = self.handles[handle]
        assert isinstance(found, Stream)
        return found

    def cuStreamCreateWithPriority(self, stream: Any, flags: int, priority: int) -> None:
        stream[0] = self._new(Stream())

    def cuStreamDestroy(self, stream: int) -> None:
        self._stream(stream).drain()

    def cuStreamSynchronize(self, stream: int) -> None:
        self._stream(stream).drain()

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        self._stream(stream).add(self.handles[event].wait)

    def cuEventCreate(self, event: Any, flags: int) -> None:
        event[0] = self._new(Event())

    def cuEventRecord(self, event: int, stream: int) -> None:
        recorded, on = self.handles[event], self._stream(stream)
        recorded.stream, recorded.passed = on, None

        def passes() -> None:
            recorded.passed = self.clock

        on.add(passes)

    def cuEventSynchronize(self, event: int) -> None:
        self.handles[event].wait()

    def cuEventElapsedTime(self, milliseconds: Any, first: int, last: int) -> int | None:
        begun, ended = self.handles[first].passed, self.handles[last].passed
        if begun is None or ended is None:
            return NOT_READY
        milliseconds[0] = 1e3 * (ended - begun)
        return None

    # Kernels.

    def cuLibraryLoadData(self, library: Any, code: int, *rest: Any) -> None:
        library[0] = self._new("library")

    def cuLibraryGetKernel(self, kernel: Any, library: int, name: bytes) -> int | None:
        names = {one: nbytes for one, nbytes, *_ in self.emulator.kernels(self.generation)}
        if name.decode() not in names:
            return NOT_FOUND
        kernel[0] = self._new((name.decode(), names[name.decode()]))
        return None

    def cuLaunchKernel(self, function: int, *rest: Any) -> int | None:
        grid, block, shared, stream, params, extra = rest[:3], rest[3:6], *rest[6:]
        if extra or min(*grid, *block) < 1 or grid[1] > 65535 or grid[2] > 65535 or shared > 48 << 10:
            return INVALID
        name, nbytes = self.handles[function]
        pointer = ctypes.cast(params, POINTER(c_void_p))[0]
        assert pointer is not None
        copied = ctypes.string_at(pointer, nbytes)
        self._stream(stream).add(lambda: self._run(name, grid, block, shared, copied))
        return None

    def _run(self, name: str, grid: Any, block: Any, shared: int, params: bytes) -> None:
        self.launches.append((name, tuple(grid), tuple(block), shared))
        self.clock += self.seconds_of.get(name, 1e-6)
        self.emulator.launch(self.generation, name, grid[0], grid[1], params, len(self.launches))

    # Graphs.

    def cuStreamBeginCapture(self, stream: int, mode: int) -> None:
        on = self._stream(stream)
        on.captured = []
        on.graph = self._new(on.captured)

    def cuStreamGetCaptureInfo(self, stream: int, status: Any, ident: Any, graph: Any, *rest: Any) -> None:
        on = self._stream(stream)
        if status:
            status[0] = int(on.captured is not None)
        if graph:
            graph[0] = on.graph

    def cuStreamIsCapturing(self, stream: int, status: Any) -> None:
        status[0] = int(self._stream(stream).captured is not None)

    def cuStreamEndCapture(self, stream: int, graph: Any) -> None:
        on = self._stream(stream)
        if graph:
            graph[0] = on.graph
        on.captured = None

    def cuGraphInstantiateWithParams(self, executable: Any, graph: int, params: Any) -> None:
        executable[0] = self._new(list(self.handles[graph]))

    def cuUserObjectCreate(self, created: Any, *rest: Any) -> None:
        created[0] = self._new("user object")

    def cuGraphLaunch(self, executable: int, stream: int) -> None:
        for work in self.handles[executable]:
            self._stream(stream).add(work)


OUT = POINTER(c_void_p)
NUMBER = POINTER(c_int)
#: Every function that the stand-in has, and the types of what it takes.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (NUMBER,),
    "cuGetErrorName": (c_int, OUT),
    "cuGetErrorString": (c_int, OUT),
    "cuDeviceGetCount": (NUMBER,),
    "cuDeviceGet": (NUMBER, c_int),
    "cuDeviceGetName": (c_void_p, c_int, c_int),
    "cuDeviceGetAttribute": (NUMBER, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (OUT, c_int),
    "cuDevicePrimaryCtxRelease": (c_int,),
    "cuCtxGetCurrent": (OUT,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxGetDevice": (NUMBER,),
    "cuCtxGetStreamPriorityRange": (NUMBER, NUMBER),
    "cuMemAlloc": (POINTER(c_uint64), c_size_t),
    "cuMemFree": (c_uint64,),
    "cuMemAllocFromPoolAsync": (POINTER(c_uint64), c_size_t, c_void_p, c_void_p),
    "cuMemFreeAsync": (c_uint64, c_void_p),
    "cuDeviceGetMemPool": (OUT, c_int),
    "cuDeviceGetDefaultMemPool": (OUT, c_int),
    "cuMemPoolGetAttribute": (c_void_p, c_int, c_void_p),
    "cuMemPoolSetAttribute": (c_void_p, c_int, c_void_p),
    "cuMemAllocHost": (OUT, c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyAsync": (c_uint64, c_uint64, c_size_t, c_void_p),
    "cuStreamCreateWithPriority": (OUT, c_uint, c_int),
    "cuStreamDestroy": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuEventCreate": (OUT, c_uint),
    "cuEventDestroy": (c_void_p,),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuLibraryLoadData": (OUT, c_void_p, c_void_p, c_void_p, c_uint, c_void_p, c_void_p, c_uint),
    "cuLibraryUnload": (c_void_p,),
    "cuLibraryGetKernel": (OUT, c_void_p, c_char_p),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "cuStreamBeginCapture": (c_void_p, c_int),
    "cuStreamGetCaptureInfo": (c_void_p, NUMBER, POINTER(c_uint64), OUT, OUT, POINTER(c_size_t)),
    "cuStreamIsCapturing": (c_void_p, NUMBER),
    "cuStreamEndCapture": (c_void_p, OUT),
    "cuGraphInstantiateWithParams": (OUT, c_void_p, c_void_p),
    "cuUserObjectCreate": (OUT, c_void_p, c_void_p, c_uint, c_uint),
    "cuUserObjectRelease": (c_void_p, c_uint),
    "cuGraphRetainUserObject": (c_void_p, c_void_p, c_uint, c_uint),
    "cuGraphReleaseUserObject": (c_void_p, c_void_p, c_uint),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
}
