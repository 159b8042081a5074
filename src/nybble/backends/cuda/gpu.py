"""A GPU, through cuda-core. Tested with a stand-in for the driver; no GPU has run it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nybble.backends.cuda.device import Borrowed, Captured, Device, Event, Launch, generation_of
from nybble.backends.cuda.kernels import block_of
from nybble.backends.cuda.nvrtc import LEAST_ARCH
from nybble.backends.errors import EngineError
from nybble.graph.types import Array

#: How to install cuda-core, for drivers of CUDA 12 and of CUDA 13.
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
    """A page-locked buffer in host memory that grows on demand, for copies to and from the device."""

    def __init__(self, core: Any) -> None:
        self._memory = core.LegacyPinnedMemoryResource()
        self._buffer: Any = None

    def bytes(self, count: int) -> Array:
        """The first ``count`` bytes. May reallocate, so no copy may be in progress."""
        if self._buffer is None or self._buffer.size < count:
            self.close()
            self._buffer = self._memory.allocate(count)
        found: Array = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(int(self._buffer.handle)))
        return found

    def close(self) -> None:
        """Free it."""
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None


class GpuDevice(Device):
    """One GPU. Kernels run on one stream, copies to the device on a second one.

    Parameters
    ----------
    cubins : callable
    ordinal : int
        Index among the visible GPUs, which ``CUDA_VISIBLE_DEVICES`` selects.

    Raises
    ------
    EngineError
        If cuda-core, the driver or a GPU is missing, or the GPU is older than compute capability 7.5.
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
        self.generation = generation_of(self.arch)
        self._device.set_current()
        # Every engine creates its own streams and module, so that closing one does not affect others.
        self._compute, self._copies = self._device.create_stream(), self._device.create_stream()
        self._module = self._core.ObjectCode.from_cubin(cubins(self.arch))
        self._kernels: dict[str, Any] = {}
        self._buffers: dict[int, Any] = {}
        self._to, self._from = _Pinned(self._core), _Pinned(self._core)

    def activate(self) -> None:
        """Make the GPU current in this thread."""
        self._device.set_current()

    def allocate(self, nbytes: int) -> int:
        """Allocate from the driver's memory pool, if there is one."""
        buffer = self._device.allocate(max(nbytes, 1), stream=self._compute)
        # The other stream may write to it at once.
        self._compute.sync()
        address = int(buffer.handle)
        self._buffers[address] = buffer
        return address

    def release(self, address: int) -> None:
        """Waits for all work, since the next owner of the memory may write to it at once."""
        self._compute.sync()
        self._copies.sync()
        self._buffers.pop(address).close(self._compute)

    def write(self, address: int, data: Array) -> None:
        """Runs concurrently with earlier kernels and before later ones."""
        count = data.nbytes
        if not count:
            return
        # The previous copy reads the same host memory.
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
        """Runs after earlier launches. Errors of a kernel are reported by the next call that waits for it."""
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
        """One launch for the whole graph."""
        assert isinstance(captured, _Graph)  # noqa: S101
        captured.graph.launch(self._compute)

    def event(self) -> Event:
        """On the stream of the kernels."""
        return _Recorded(self._compute.record(options=self._core.EventOptions(timing_enabled=True)))

    def nanoseconds(self, first: Event, last: Event) -> int:
        """Measured by the GPU, with a resolution of about 0.5 microseconds."""
        assert isinstance(first, _Recorded) and isinstance(last, _Recorded)  # noqa: S101
        last.event.sync()
        milliseconds: float = last.event - first.event
        return round(milliseconds * 1e6)

    def borrow(self, x: object) -> Borrowed:
        """An array on this GPU, read in place, after the pending work of its producer."""
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
        """A copy that the caller owns and that supports DLPack. It is complete when this returns."""
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
        """Calls the driver directly, since cuda-core does not take structures as parameters."""
        function = self._kernels.get(launch.kernel)
        if function is None:
            kernel = self._module.get_kernel(launch.kernel)
            function = self._kernels[launch.kernel] = self._driver.CUfunction(int(kernel.handle))
        block = block_of(launch.kernel, self.generation)
        # The driver copies the parameters before the call returns.
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
            raise EngineError(f"{launch.kernel}: the driver refused the launch: {error.name}")


def list_gpus() -> list[tuple[str, int]]:
    """Name and compute capability, times 10, of each visible GPU. Raises :class:`EngineError` if there is none."""
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
    """Open a GPU. There are many kinds of error: no driver, no GPU, a driver that is too old."""
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
