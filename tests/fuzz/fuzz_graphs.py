"""Models from outside: directories, QDQ ONNX files, float ONNX files."""

from __future__ import annotations

import io
import math
import random
import shutil
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_messages import mutate
from fuzz_target import Target, packed, unpack

from nybble.backends.errors import EngineError
from nybble.engine import Engine
from nybble.graph import Graph, ModelFormatError, archive, read_graph, write_graph
from nybble.graph.digest import model_digest
from nybble.graph.macs import macs
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

for folder in ("graph", "quantize"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
from test_malformed import every_type  # noqa: E402

#: Larger networks are read and written, but not run: an input should take milliseconds.
MOST_VALUES, MOST_MACS = 1 << 13, 1 << 18


def small() -> Graph:
    return bottleneck_resnet(blocks=(1,), width=2, image=8, classes=3)


def check_answers(graph: Graph) -> None:
    """The engine returns what the reference does, unless it refuses the graph."""
    sizes = [math.prod(value.shape) for value in graph.values.values()]
    if sum(sizes) > MOST_VALUES or sum(macs(graph, node) for node in graph.nodes) > MOST_MACS:
        return
    try:
        engine = Engine(graph, threads=1)
    except EngineError:
        return
    entry = graph.inputs[0]
    drawn = np.random.default_rng(3).integers(
        entry.dtype.minimum, entry.dtype.maximum, (2, *entry.shape), endpoint=True
    )
    images = drawn.astype(entry.dtype.storage)
    expected = interpret(graph, images)
    with engine:
        found = engine.run_integer(images) if len(graph.outputs) == 1 else None
    if found is not None:
        wanted = expected[graph.outputs[0]]
        # Bits, as NaN differs from itself.
        assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


class Directories(Target):
    """A model directory: read, written, read again, and run."""

    name = "directory"

    def seeds(self) -> Mapping[str, bytes]:
        found = {}
        for name, graph in (("resnet", small()), ("nodes", every_type())):
            write_graph(graph, self.scratch / name)
            found[name] = packed(self.scratch / name)
        return found

    def run(self, data: bytes) -> None:
        folder, again = self.scratch / "read", self.scratch / "written"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        unpack(data, folder)
        try:
            graph = read_graph(folder)
        except ModelFormatError as error:
            assert str(error).startswith(str(folder)), error
            assert "\n" not in str(error) and len(error.message) < 700, error
            return
        shutil.rmtree(again, ignore_errors=True)
        write_graph(graph, again)
        assert model_digest(read_graph(again)) == model_digest(graph)
        check_answers(graph)


class Archives(Target):
    """A model packed into one file: read, and run."""

    name = "archive"

    def seeds(self) -> Mapping[str, bytes]:
        write_graph(small(), self.scratch / "small")
        return {"small": archive.packed(self.scratch / "small")}

    def mutate(self, data: bytes, draw: random.Random) -> bytes:
        """Change a file within the archive, and pack it anew."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as found:
                files = {entry.filename: found.read(entry) for entry in found.infolist() if entry.file_size < 1 << 16}
        except Exception:  # zipfile lets through whatever a damaged file makes it raise.
            return data
        if not files:
            return data
        name = draw.choice(sorted(files))
        content = bytearray(files.pop(name))
        place = draw.randrange(len(content) + 1)
        content[place : place + draw.choice((0, 1, 4))] = draw.choice((b"", b"\0", b"-1", b"65537", draw.randbytes(2)))
        files[draw.choice((name, name, name, f"{name}x", f"../{name}", f"model/{name}"))] = bytes(content)
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
            for each, inside in files.items():
                made.writestr(each, inside)
        return sink.getvalue()

    def run(self, data: bytes) -> None:
        file = self.scratch / "packed.nybble"
        file.write_bytes(data)
        try:
            graph = read_graph(file)
            # Tensors are read when they are asked for.
            check_answers(graph)
        except ModelFormatError as error:
            assert str(error).startswith(str(file)), error


def _mutated_onnx(data: bytes, draw: random.Random) -> bytes:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return data
    mutate(model, draw)
    return model.SerializeToString()


class QdqFiles(Target):
    """A QDQ ONNX file: imported and run."""

    name = "onnx"

    def seeds(self) -> Mapping[str, bytes]:
        from nybble.graph.onnx import to_onnx

        graphs = {"resnet": small(), "nodes": every_type()}
        return {name: to_onnx(graph).model.SerializeToString() for name, graph in graphs.items()}

    def mutate(self, data: bytes, draw: random.Random) -> bytes:
        return _mutated_onnx(data, draw)

    def run(self, data: bytes) -> None:
        from nybble.graph.onnx import OnnxImportError, import_onnx

        file = self.scratch / "model.onnx"
        file.write_bytes(data)
        try:
            found = import_onnx(file)
        except OnnxImportError as error:
            assert str(file) in str(error) and "\n" not in str(error), error
            return
        check_answers(found.graph)


class FloatFiles(Target):
    """A float ONNX file, as ``nybble quantize`` reads it; what is read is called once."""

    name = "float-onnx"

    def seeds(self) -> Mapping[str, bytes]:
        from onnx_files import File

        shape = (1, 3, 8, 6)
        plain = File(shape=shape)
        plain.conv(3, 4, strides=[2, 2], pads=[1, 1, 1, 1])
        plain.node("BatchNormalization", *(plain.drawn(4, low=0.5, high=1.5) for _ in range(4)))
        plain.node("Relu")
        plain.node("GlobalAveragePool")
        plain.head(4, 3)
        gated = File(shape=shape, opset=13)
        gated.conv(3, 4, (1, 1))
        wide = gated.last
        gated.node("GlobalAveragePool")
        gated.conv(4, 4, (1, 1))
        gated.node("HardSigmoid", alpha=1 / 6, beta=0.5)
        gated.node("Mul", wide)
        gated.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        gated.node("Clip", gated.constant(0.0), gated.constant(6.0))
        gated.node("ReduceMean", axes=[2, 3], keepdims=0)
        gated.node("Gemm", gated.drawn(4, 3))
        return {"plain": plain.proto().SerializeToString(), "gated": gated.proto().SerializeToString()}

    def mutate(self, data: bytes, draw: random.Random) -> bytes:
        return _mutated_onnx(data, draw)

    def run(self, data: bytes) -> None:
        import torch

        from nybble.quantize.errors import QuantizeError
        from nybble.quantize.sources.onnx import load_onnx

        file = self.scratch / "model.onnx"
        file.write_bytes(data)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                module: Any = load_onnx(file)
            except QuantizeError as error:
                assert str(file) in str(error), error
                return
            size = module.image_size or (8, 6)
            if module.channels * size[0] * size[1] <= MOST_VALUES:
                module(torch.zeros(1, module.channels, *size))
