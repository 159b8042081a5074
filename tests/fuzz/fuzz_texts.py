"""Text files that users write: lists of labels, LoadGen's settings, ensembles, servers, quantization."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fuzz_target import Bytes, Target

from nybble.engine.ensemble.settings import read_settings as read_ensemble
from nybble.graph.errors import NybbleError
from nybble.images.listing import read_rows
from nybble.mlperf import conf
from nybble.mlperf.labels import read_labels
from nybble.serve.settings import read_settings as read_server


class Labels(Target):
    """A list of photos and labels, as commands and as ``mlperf`` read it; the first byte chooses the name."""

    name = "labels"
    NAMES = ("labels.csv", "val_map.txt", "list.tsv")

    def seeds(self) -> Mapping[str, bytes]:
        return {
            "csv": b'\x00file,label,name\na/b.jpg,3,cat\n"c,d.jpg",4,dog\n',
            "val_map": b"\x01ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n",
            "names": b"\x01a.png tench\nb.png goldfish\n",
            "tsv": b"\x02file\tlabel\na.jpg\t0\nb.jpg\t999\n",
            "bom": b"\x00\xef\xbb\xbffile,label\r\na.jpg,1\r\n",
        }

    def run(self, data: bytes) -> None:
        source = Bytes(data)
        file = self.scratch / source.pick(self.NAMES)
        file.write_bytes(source.rest())
        for reader in (read_rows, read_labels):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    reader(file)
                except NybbleError as error:
                    assert str(error).startswith(str(file)) and "\n" not in str(error), error


def _quantization(file: Path) -> object:
    from nybble.quantize.config import QuantizeConfig

    return QuantizeConfig.load(file)


#: Readers by the name of the file that the first byte of an input chooses.
READERS: Mapping[str, Callable[[Path], object]] = {
    "user.conf": lambda file: conf.read(file, "Server", user=True),
    "mlperf.conf": lambda file: conf.read(file, "SingleStream", user=False),
    "ensemble.toml": read_ensemble,
    "serve.toml": lambda file: read_server(file, {}, {}),
    "quantize.yaml": _quantization,
}


def _names(schema: Any) -> Iterator[str]:
    """Fields and allowed values anywhere in a JSON schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        yield from (value for value in schema.get("enum", ()) if isinstance(value, str))
        for value in schema.values():
            yield from _names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _names(value)


class Settings(Target):
    """A file of settings, by its own reader."""

    name = "settings"

    def seeds(self) -> Mapping[str, bytes]:
        texts = {
            "user.conf": "*.Server.target_qps = 100\nresnet50.Server.min_duration = 600000  # ms\n",
            "mlperf.conf": "*.*.qsl_rng_seed = 1\nresnet50.SingleStream.target_latency_percentile = 90\n",
            "ensemble.toml": 'format = "nybble-ensemble/1"\nkind = "cascade"\n[[member]]\nmodel = "a"\n'
            'temperature = 1.5\nmargin_below = 0.2\n[[member]]\nmodel = "b"\nweight = 2.0\n',
            "serve.toml": 'port = 8000\nhost = "127.0.0.1"\nqueue = 64\n[models.one]\npath = "somewhere"\nbatch = 4\n',
            "quantize.yaml": "bits: w4a4\nlayers:\n  conv1:\n    weight_bits: 8\ncalibration:\n  method: mse\n",
        }
        return {name: bytes([list(READERS).index(name)]) + text.encode() for name, text in texts.items()}

    def words(self) -> Iterable[bytes]:
        from nybble.engine.ensemble.settings import Settings as Ensemble
        from nybble.quantize.config import QuantizeConfig
        from nybble.serve.settings import Settings as Server

        fields = {name for kind in (Ensemble, QuantizeConfig, Server) for name in _names(kind.model_json_schema())}
        return [*super().words(), *(name.encode() for name in sorted(fields))]

    def run(self, data: bytes) -> None:
        source = Bytes(data)
        name = source.pick(list(READERS))
        file = self.scratch / name
        file.write_bytes(source.rest())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                READERS[name](file)
            except NybbleError as error:
                assert str(file) in str(error), error
