"""What is run on the stand-in for the driver, in a process of its own: ``scenarios.py NAME FOLDER COMPILER``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from stand_in import Driver

from nybble import _gpu_emulator
from nybble.backends.cuda import backend
from nybble.backends.cuda import open as opening
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.gpu import GpuDevice, list_gpus
from nybble.backends.cuda.structures import InputParams, Tensor
from nybble.backends.errors import EngineError
from nybble.engine import Engine
from nybble.graph import Graph, Preprocessing
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

NETWORK = bottleneck_resnet((1, 1), width=16, classes=10, image=16, seed=1)


def inputs(images: int) -> np.ndarray:
    entry = NETWORK.inputs[0]
    values = np.random.default_rng(0).integers(entry.dtype.minimum, entry.dtype.maximum + 1, (images, *entry.shape))
    return values.astype(entry.dtype.storage)


def engine(arch: int) -> Engine:
    opening.cubin_for = lambda wanted: f"cubin for {wanted}".encode() if wanted == arch else b""  # type: ignore[assignment]
    backend._batch_images = 3
    return Engine(NETWORK, device="cuda")


def network(driver: Driver) -> None:
    """Batches of three sizes, each one graph; every layer; the next batch is copied while one runs."""
    with engine(driver.arch) as made:
        x = inputs(7)
        for images in (2, 7, 5, 5):
            expected = interpret(NETWORK, x[:images])[NETWORK.outputs[0]]
            np.testing.assert_array_equal(made.run_integer(x[:images]), expected)
        assert driver.asked.count("cuStreamBeginCapture") == 2, "batches of 3 and 2 ran twice in the same arena"
        assert driver.asked.count("cuGraphLaunch") == 4
        expected_all = interpret(NETWORK, x, keep=None)
        for name, value in made.tap(x).items():
            np.testing.assert_array_equal(value, expected_all[name], err_msg=name)
        assert made.isa == f"sm_{driver.arch} (stand-in)"
    blocks = {name: (threads, shared) for name, _, threads, shared in _gpu_emulator.kernels(driver.generation)}
    for name, _, block, shared in driver.launches:
        assert blocks[name] == (block[0], shared), name
    assert not driver.device_memory, "memory is given back"


def events(driver: Driver) -> None:
    """Times of steps are those between events around their kernels."""
    with engine(driver.arch) as made:
        driver.seconds_of = {name: 2e-6 for name, *_ in _gpu_emulator.kernels(driver.generation)}
        times = made.step_times(inputs(1))
        assert set(times.values()) == {2000}, times
        assert len(times) >= len(made._executable.step_names)


def threads(driver: Driver) -> None:
    """Several Python threads call one engine."""
    with engine(driver.arch) as made, ThreadPoolExecutor(3) as pool:
        x = inputs(6)
        expected = interpret(NETWORK, x)[NETWORK.outputs[0]]
        for first, found in enumerate(pool.map(lambda i: made.run_integer(x[i : i + 1 + i % 2]), range(5))):
            np.testing.assert_array_equal(found, expected[first : first + 1 + first % 2])


def dlpack(driver: Driver) -> None:
    """Photos that lie on the GPU, as samples or normalised, and logits that stay there."""
    from cuda.core import Device
    from cuda.core.utils import StridedMemoryView

    preprocessing = Preprocessing(resize=16, crop=(16, 16), input_type=NETWORK.inputs[0].dtype)
    graph = Graph(NETWORK.inputs, list(NETWORK), NETWORK.outputs, preprocessing=preprocessing)
    opening.cubin_for = lambda arch: b"cubin"
    backend._batch_images = 2
    photos = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    with Engine(graph, device="cuda") as made:
        stream = Device(0).create_stream()
        numbers = np.ascontiguousarray(preprocessing.normalise(photos).transpose(0, 3, 1, 2))
        buffer = Device(0).allocate(numbers.nbytes, stream=stream)

        def on_gpu(values: np.ndarray, shape: tuple[int, ...]) -> Any:
            driver.emulator.write(int(buffer.handle), values.reshape(-1).view(np.uint8))
            return StridedMemoryView.from_buffer(buffer, shape, dtype=values.dtype, itemsize=values.itemsize)

        for values in (photos, numbers):
            lent: Any = made(on_gpu(values, values.shape))
            assert lent.__dlpack_device__() == (2, 0)
            logits = StridedMemoryView.from_dlpack(lent, stream_ptr=int(stream.handle))
            stream.sync()
            found = np.empty((5, logits.strides[0]), np.float32)
            driver.emulator.read(logits.ptr, found.reshape(-1).view(np.uint8))
            np.testing.assert_array_equal(found[:, : logits.shape[1]], made(photos))
        np.testing.assert_array_equal(made(numbers), made(photos))
        numbers[3, 1, 2, 3] = np.nan
        for wrong, shape, why in (
            (photos, (5, 768), "expected uint8 (N, 16, 16, 3) photos or float32 (N, 3, 16, 16) on the device"),
            (numbers, numbers.shape, "the input holds NaN"),
        ):
            try:
                made(on_gpu(wrong, shape))
            except ValueError as error:
                assert why in str(error), error
            else:
                raise AssertionError(f"not refused: {why}")


def lateness(driver: Driver) -> None:
    """The stand-in does nothing before somebody waits; a kernel's fault comes up where its work is waited for."""
    device = GpuDevice(lambda arch: b"cubin")
    address = device.allocate(4)
    data = np.arange(4, dtype=np.uint8)
    device.write(address, data)
    found = np.zeros(4, np.uint8)
    try:
        driver.emulator.read(address, found)
    except _gpu_emulator.EmulatorError as error:
        assert "never written" in str(error)
    else:
        raise AssertionError("the copy was not late")
    data[:] = 0
    device.read(address, found)
    assert found.tolist() == [0, 1, 2, 3]
    first, last = device.event(), device.event()
    assert device.nanoseconds(first, last) == 0
    params = InputParams(out=Tensor(address, 1, 0, 32, 3), source=address, pixels=1, image_pixels=1, pixel_step=3)
    device.launch(Launch("layer_input", (1, 1), params))
    try:
        device.read(address, found)
    except Exception as error:
        assert "CUDA_ERROR_LAUNCH_FAILED" in str(error) or "719" in str(error), error
    driver.faults.clear()


def proof(driver: Driver) -> None:
    """The proof of docs/gpu.md, with its JSON."""
    import json

    from nybble.backends.cuda.proof import __main__ as command
    from nybble.backends.cuda.proof import run as runs
    from nybble.backends.cuda.proof.make import make_bundle

    runs.WARM_UP, runs.RUNS, runs.SECONDS = 0, 2, 0.0
    folder = Path(sys.argv[2])
    graph = bottleneck_resnet((1,), width=16, classes=5, image=16, seed=2)
    values = np.random.default_rng(0).integers(-127, 128, (2, *graph.inputs[0].shape), np.int8)
    bundle = make_bundle(graph, values, {driver.arch: b"cubin"}, {"model": "small"}, batches=(2,))
    bundle.save(folder / "bundle")
    driver.model = "NVIDIA A10"
    assert (
        command.main([str(folder / "bundle"), "--out", str(folder / "out.json"), "--only", "probe,network,speed"]) == 0
    )
    found = json.loads((folder / "out.json").read_text())
    assert found["right"] and found["gpu"] == "NVIDIA A10"
    (speed,) = found["speed"]
    # The stand-in's clock counts a microsecond a launch.
    assert abs(speed["seconds"] - 1e-6 * len(bundle.programs["speed"][0].launches)) < 1e-9
    assert 0 < speed["share_of_roofline"] < 1


def refusals(driver: Driver) -> None:
    """Another GPU than asked for, and none of that number."""
    opening.cubin_for = lambda arch: b"cubin"
    refused("isa='sm_90': the GPU is sm_89 (stand-in); CUDA_VISIBLE_DEVICES", lambda: opening.open_gpu("sm_90"))
    assert not driver.device_memory
    assert list_gpus() == [("stand-in", 89)]
    refused("no NVIDIA GPU can be used here (device_id must be", lambda: GpuDevice(lambda arch: b"", 3))


def old(driver: Driver) -> None:
    """Compute capability 7.0."""
    refused("stand-in has compute capability 7.0; kernels need 7.5 or later", lambda: GpuDevice(lambda arch: b""))


def refused(why: str, call: Callable[[], object]) -> None:
    try:
        call()
    except EngineError as error:
        assert why in str(error) and "\n" not in str(error), error
        return
    raise AssertionError(f"not refused: {why}")


def main() -> None:
    name, folder, compiler = sys.argv[1:]
    generation, arch, pools = {
        "threads": (75, 75, False),
        "events": (90, 90, False),
        "old": (75, 70, True),
        "proof": (80, 86, True),
    }.get(name, (80, 89, True))
    driver = Driver(_gpu_emulator, generation, arch, pools)
    driver.load(Path(folder), compiler)
    globals()[name](driver)
    assert not driver.faults, driver.faults


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    # cuda-core gives its context back when the process ends, and no Python is there any more to answer it.
    os._exit(0)
