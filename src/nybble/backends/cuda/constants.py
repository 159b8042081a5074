"""What kernels read and nobody writes: weights, factors and tables in device memory."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda.device import Device
from nybble.graph.types import Array


class Constants:
    """Arrays that were copied to a device, by their bytes: the same ones lie there once."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._addresses: dict[bytes, int] = {}

    def add(self, array: Array) -> int:
        """The address of an array's elements."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        key = data.tobytes()
        if key not in self._addresses:
            self._addresses[key] = self._device.allocate(len(data))
            self._device.write(self._addresses[key], data)
        return self._addresses[key]

    def release(self) -> None:
        """Give all back."""
        for address in self._addresses.values():
            self._device.release(address)
        self._addresses.clear()
