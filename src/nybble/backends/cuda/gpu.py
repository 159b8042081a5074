"""A GPU, through cuda-core. Compiled against its interface and run on a stand-in for the driver; no GPU has run it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.backends.cuda.device import Borrowed, Captured, Device, Event, Launch
from nybble.backends.cuda.kernels import block_of
from nybble.backends.cuda.nvrtc import LEAST_ARCH
from nybble.backends.errors import EngineError
from nybble.graph.types import Array

#: What brings cuda-core, for drivers of CUDA 12 and of CUDA 13.
EXTRAS = "pip install 'nybble[cuda13]', or 'nybble[cuda12]' for a driver of CUDA 12"

#: The cubin of all kernels for an architecture, such as 89.
Cubins = Callable[[int], bytes]


@dataclass
class _Graph(Captured):
    graph: Any


@dataclass
class _Recorded(Event):
    event: Any


class _Pinned:
    """Page-locked memory of the host, which grows: what copies are made from and to."""

    def __init__(self, core: Any) -> None:
        self._memory = core.LegacyPinnedMemoryResource()
        self._buffer: Any = None

    def bytes(self, count: int) -> Array:
        """So many bytes. Nothing may be under way in the memory: it may move."""
        if self._buffer is None or self._buffer.size < count:
            self.close()
            self._buffer = self._memory.allocate(count)
        found: Array = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(int(self._buffer.handle)))
        return found

    def close(self) -> None:
        """Give it back."""
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None


class GpuDevice(Device):
    """One GPU. Kernels run on one stream, copies to the device on another.

    Parameters
    ----------
    cubins : callable
    ordinal : int
        Among the GPUs that the driver shows; ``CUDA_VISIBLE_DEVICES`` decides which these are.

    Raises
    ------
    EngineError
        In one line: without cuda-core, driver or GPU, or on one before compute capability 7.5.
    """

    def __init__(self, cubins: Cubins, ordinal: int = 0) -> None:
        self._core, self._driver = _import_cuda()
        self._device = _find(self._core, ordinal)
        major, minor = self._device.compute_capability
        self.arch = 10 * major + minor
        self.model = str(self._device.name)
        self.name = f"sm_{self.arch} ({self.model})"
        if self.arch < LEAST_ARCH:
            raise EngineError(
                f"device='cuda': {self.model} has compute capability {major}.{minor}; kernels need 7.5 or later"
            )
        self.generation = max(least for least in (75, 80, 90) if least <= self.arch)
        self._device.set_current()
        # Objects of the driver are made anew for every engine: what one gives back no other uses.
        self._compute, self._copies = self._device.create_stream(), self._device.create_stream()
        self._module = self._core.ObjectCode.from_cubin(cubins(self.arch))
        self._kernels: dict[str, Any] = {}
        self._buffers: dict[int, Any] = {}
        self._to, self._from = _Pinned(self._core), _Pinned(self._core)

    def activate(self) -> None:
        """The driver has a current GPU for each thread."""
        self._device.set_current()

    def allocate(self, nbytes: int) -> int:
        """From the driver's pool, where there is one."""
        buffer = self._device.allocate(max(nbytes, 1), stream=self._compute)
        # The other stream may write to it at once.
        self._compute.sync()
        address = int(buffer.handle)
        self._buffers[address] = buffer
        return address

    def release(self, address: int) -> None:
        """Once all work is done: whoever gets the memory next may write to it at once."""
        self._compute.sync()
        self._copies.sync()
        self._buffers.pop(address).close(self._compute)

    def write(self, address: int, data: Array) -> None:
        """Beside the kernels that are under way, before those that are launched later."""
        count = data.nbytes
        if not count:
            return
        # The copy before this one reads the same memory of the host.
        self._copies.sync()
        staged = self._to.bytes(count)
        staged[:] = data.reshape(-1).view(np.uint8)
        self._copy(address, staged.ctypes.data, count, self._copies)
        self._compute.wait(self._copies.record())

    def read(self, address: int, out: Array) -> None:
        """After the kernels launched so far."""
        count = out.nbytes
        if not count:
            return
        staged = self._from.bytes(count)
        self._copy(staged.ctypes.data, address, count, self._compute)
        self._compute.sync()
        out.reshape(-1).view(np.uint8)[:] = staged

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """On the stream of the kernels."""
        self._copy(to, source, nbytes, self._compute)

    def launch(self, launch: Launch) -> None:
        """Behind what was launched before. Errors of a kernel come up where its work is waited for."""
        self._launch(launch, self._compute)

    def capture(self, launches: list[Launch]) -> Captured:
        """A CUDA graph."""
        builder = self._compute.create_graph_builder().begin_building()
        for launch in launches:
            self._launch(launch, builder.stream)
        graph = builder.end_building().complete()
        builder.close()
        return _Graph(graph)

    def replay(self, captured: Captured) -> None:
        """One launch for all."""
        assert isinstance(captured, _Graph)  # noqa: S101
        captured.graph.launch(self._compute)

    def event(self) -> Event:
        """On the stream of the kernels."""
        return _Recorded(self._compute.record(options=self._core.EventOptions(timing_enabled=True)))

    def nanoseconds(self, first: Event, last: Event) -> int:
        """As the GPU measured it, to about half a microsecond."""
        assert isinstance(first, _Recorded) and isinstance(last, _Recorded)  # noqa: S101
        last.event.sync()
        milliseconds: float = last.event - first.event
        return round(milliseconds * 1e6)

    def borrow(self, x: object) -> Borrowed:
        """An array on this GPU, after what its producer has under way; it is read where it lies."""
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_any_interface(x, stream_ptr=int(self._compute.handle))
        if view.device_id != self._device.device_id:
            raise ValueError(
                f"expected an array on {self.name}, GPU {self._device.device_id}, got GPU {view.device_id}"
            )
        shape = tuple(view.shape)
        dense = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
        if view.strides is not None and tuple(view.strides) != dense and 0 not in shape:
            raise ValueError("expected a contiguous array on the GPU")
        return Borrowed(view.ptr, shape, np.dtype(view.dtype), view)

    def lend(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> object:
        """A copy that the caller owns, which speaks DLPack; all work for it is done when this returns."""
        from cuda.core.utils import StridedMemoryView

        count = dtype.itemsize * max(1, shape[0] * strides[0])
        buffer = self._device.allocate(count, stream=self._compute)
        if shape[0]:
            self._copy(int(buffer.handle), address, count, self._compute)
        self._compute.sync()
        return StridedMemoryView.from_buffer(buffer, shape, strides, itemsize=dtype.itemsize, dtype=dtype)

    def close(self) -> None:
        """Wait for all work first."""
        self._compute.sync()
        for address in list(self._buffers):
            self.release(address)
        self._to.close()
        self._from.close()
        self._compute.sync()
        self._copies.close()
        self._compute.close()

    def _copy(self, to: int, source: int, count: int, stream: Any) -> None:
        buffer = self._core.Buffer
        buffer.from_handle(to, count).copy_from(buffer.from_handle(source, count), stream=stream)

    def _launch(self, launch: Launch, stream: Any) -> None:
        """By the driver's own call: cuda-core's takes no structures as parameters."""
        function = self._kernels.get(launch.kernel)
        if function is None:
            kernel = self._module.get_kernel(launch.kernel)
            function = self._kernels[launch.kernel] = self._driver.CUfunction(int(kernel.handle))
        block = block_of(launch.kernel, self.generation)
        # The driver copies parameters before the call returns.
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(launch.params))
        (error,) = self._driver.cuLaunchKernel(
            function,
            *(*launch.grid, 1),
            *(block.threads, 1, 1),
            block.shared_bytes,
            stream.handle,
            ctypes.addressof(pointers),
            0,
        )
        if error:
            raise EngineError(f"{launch.kernel}: the driver does not launch it: {error.name}")


def list_gpus() -> list[tuple[str, int]]:
    """Name and compute capability, times 10, of each GPU that the driver shows; :class:`EngineError` without any."""
    core, _ = _import_cuda()
    found = []
    device = _find(core, 0)
    while True:
        major, minor = device.compute_capability
        found.append((str(device.name), 10 * major + minor))
        try:
            device = core.Device(len(found))
        except ValueError:
            return found


def _import_cuda() -> tuple[Any, Any]:
    try:
        from cuda import core
        from cuda.bindings import driver
    except ImportError as error:
        raise EngineError(f"device='cuda': cuda-core is not installed ({_line(error)}); {EXTRAS}") from None
    return core, driver


def _find(core: Any, ordinal: int) -> Any:
    """A GPU that is there. The kinds of error are many: no driver, one without GPUs, one that is too old."""
    try:
        return core.Device(ordinal)
    except Exception as error:
        raise EngineError(
            f"device='cuda': no NVIDIA GPU can be used here ({_line(error)}); device='cpu' needs none, and "
            "device='cuda-emulated' runs the kernels on the CPU"
        ) from None


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
