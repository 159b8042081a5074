"""Read-only device memory: weights, factors and tables."""

from __future__ import annotations

import numpy as np

from nybble.backends.cuda.device import Device
from nybble.graph.types import Array


class Constants:
    """Arrays copied to a device. Equal arrays are stored once."""

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
        """Free all memory."""
        for address in self._addresses.values():
            self._device.release(address)
        self._addresses.clear()
