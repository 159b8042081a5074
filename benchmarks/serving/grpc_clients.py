"""Clients over gRPC that repeat a request: `grpc_clients.py ADDRESS FILE CLIENTS SECONDS`.

FILE holds a message ModelInferRequest. Prints how many answers there were; anything but an answer is an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 4


async def ask(address: str, message: bytes, clients: int, seconds: float) -> int:
    """Let clients ask for a while, each as soon as it has its answer."""
    alone = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=alone) for _ in range(min(clients, CONNECTIONS))]
    until = time.monotonic() + seconds

    async def repeat(place: int) -> int:
        call, count = channels[place % len(channels)].unary_unary(METHOD), 0
        while time.monotonic() < until:
            await call(message)
            count += 1
        return count

    counts = await asyncio.gather(*map(repeat, range(clients)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return sum(counts)


if __name__ == "__main__":
    found = ask(sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.write(f"{asyncio.run(found)}\n")
