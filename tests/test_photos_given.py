"""What ``classify``, ``predict`` and ``preprocess`` take, and engines in other processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nybble
from nybble.graph import Graph, write_graph
from nybble.images import ImageError
from nybble.images.given import each
from nybble.synthetic import bottleneck_resnet

NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch: pip install 'nybble[quantize]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    drawn = bottleneck_resnet(blocks=(1, 1, 1, 1), width=8, image=32, classes=10)
    names = [f"thing {index}" for index in range(10)]
    write_graph(
        Graph(drawn.inputs, drawn.nodes, drawn.outputs, preprocessing=drawn.preprocessing, class_names=names), place
    )
    return place


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[nybble.Engine]:
    with nybble.load(folder, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def samples() -> Any:
    return np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path, samples: Any) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(samples).save(path)
    return path


class Named(os.PathLike[str]):
    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __fspath__(self) -> str:
        return self._path


def test_every_form_of_a_photo(engine: nybble.Engine, samples: Any, file: Path) -> None:
    expected = engine.classify(samples)
    assert len(expected) == 5 and expected[0].name.startswith("thing ")
    forms: list[Any] = [str(file), file, Named(file), file.read_bytes(), Image.fromarray(samples)]
    for form in forms:
        assert engine.classify(form) == expected, type(form)
        assert engine.classify([form, form]) == [expected, expected]
        assert engine.predict(form).to_json() == engine.predict(samples).to_json()
        assert np.array_equal(engine.preprocess(form), engine.prepare(samples))
    assert engine.classify(forms) == [expected] * len(forms)


@pytest.mark.slow
@NEEDS_TORCH
def test_tensors(engine: nybble.Engine, samples: Any) -> None:
    import torch

    expected = engine.classify(samples)
    tensor = torch.from_numpy(samples).permute(2, 0, 1)
    for form in (tensor, tensor.float() / 255, tensor.double() / 255, (tensor.float() / 255).requires_grad_()):
        assert engine.classify(form) == expected
        assert engine.classify(form[None]) == [expected]
    gray = torch.from_numpy(samples[..., 0])
    assert engine.classify(gray) == engine.classify(gray[None]) == engine.classify(samples[..., 0])
    for wrong, message in (
        (tensor.float(), "must have values from 0 to 1"),
        (tensor.float() / 0, "must have values from 0 to 1"),
        (tensor.permute(1, 2, 0), r"of shape \(3, H, W\), \(1, H, W\) or \(H, W\), got uint8 of shape \(40, 50, 3\)"),
        (tensor.int(), "got int32"),
    ):
        with pytest.raises(ImageError, match=message):
            engine.classify(wrong)


def test_arrays_of_several_photos(engine: nybble.Engine, samples: Any) -> None:
    several = np.stack([samples, samples[::-1]])
    assert engine.classify(several) == engine.classify(list(several)) != engine.classify([samples, samples])
    assert engine.preprocess(several).shape == (2, 32, 32, 3)
    assert engine.preprocess([]).shape == (0, 32, 32, 3)
    assert engine.classify([]) == []
    assert np.array_equal(engine(engine.preprocess(several)), engine(engine.preprocess(iter(several))))


def test_a_generator_is_not_held(engine: nybble.Engine, samples: Any) -> None:
    alive: list[int] = []
    most = 0

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            alive.pop()

    def photos() -> Iterator[Any]:
        nonlocal most
        for _ in range(100):
            alive.append(1)
            most = max(most, len(alive))
            yield samples.copy().view(Counted)

    assert len(engine.classify(photos())) == 100
    assert most <= 20


@pytest.mark.parametrize("wrong", [5, None, [5], [["a.png"]], 1.5])
def test_what_is_no_photo(engine: nybble.Engine, wrong: Any) -> None:
    for call in (engine.classify, engine.predict, engine.preprocess):
        with pytest.raises(TypeError, match="expected a photo"):
            call(wrong)


def test_errors_name_the_file(engine: nybble.Engine, tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    with pytest.raises(ImageError, match=r"missing\.png"):
        engine.classify(missing)
    with pytest.raises(ImageError, match=r"missing\.png"):
        engine.classify(iter([missing]))
    with pytest.raises(ImageError, match="is not an image"):
        engine.classify(b"no image")


def test_torch_is_not_imported(folder: Path, file: Path) -> None:
    code = (
        f"import sys, nybble; engine = nybble.load({str(folder)!r}); engine.classify({str(file)!r}); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_classes(engine: nybble.Engine) -> None:
    assert engine.classes == tuple(f"thing {index}" for index in range(10))


def test_pickles(folder: Path, engine: nybble.Engine, samples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with nybble.load(folder.name, threads=1, isa="scalar", tuned=False) as opened:
        content = pickle.dumps(opened)
    # The path was relative.
    monkeypatch.chdir("/")
    with pickle.loads(content) as again:
        assert (again.isa, again.threads, again.tuned) == ("scalar", 1, False)
        assert again.classify(samples) == engine.classify(samples)
    assert len(content) < 1000
    assert b"efficientnet-lite0" in pickle.dumps(nybble.load("efficientnet-lite0"))
    assert str(Path.cwd()).encode() + b"models" not in pickle.dumps(nybble.load())


def test_a_graph_in_memory_is_not_pickled(engine: nybble.Engine) -> None:
    with nybble.Engine(engine.graph, threads=1) as made, pytest.raises(pickle.PicklingError, match="write the graph"):
        pickle.dumps(made)


def answer(engine: nybble.Engine, samples: Any) -> Any:
    return engine.classify(samples)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_other_processes(engine: nybble.Engine, samples: Any, method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(answer, (engine, samples)) == engine.classify(samples)


class Photos:
    """A dataset for PyTorch whose examples are prepared, and answered, by an engine."""

    def __init__(self, engine: nybble.Engine, photos: list[Any]) -> None:
        self.engine, self.photos = engine, photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Any:
        photo = self.photos[index]
        return self.engine.preprocess(photo), self.engine.classify(photo, top=1)[0].label


@pytest.mark.slow
@NEEDS_TORCH
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_data_loader(engine: nybble.Engine, samples: Any, method: str) -> None:
    from torch.utils.data import DataLoader

    photos = [np.roll(samples, step, axis=0) for step in range(6)]
    loader: Any = DataLoader(Photos(engine, photos), batch_size=3, num_workers=2, multiprocessing_context=method)  # type: ignore[arg-type]
    labels = []
    for batch, found in loader:
        assert np.array_equal(engine(batch.numpy()).argmax(axis=1), found.numpy())
        labels += found.tolist()
    assert labels == [answers[0].label for answers in engine.classify(photos)]


def test_a_4d_array_is_several_photos() -> None:
    assert [photo.shape for photo in each(np.zeros((3, 4, 5, 3), np.uint8))] == [(4, 5, 3)] * 3  # type: ignore[union-attr]
