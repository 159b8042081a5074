"""Ensembles that are served: answers, descriptions, reloading, and what their members cost."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from servers import PATIENCE, Inside, images, inside, photo
from typer.testing import CliRunner

from ensembles import HEAT, write_ensemble
from nybble.cli import app
from nybble.engine import Ensemble, load
from nybble.engine.ensemble import Answers
from nybble.serve.description import model_config
from nybble.serve.members import Members
from nybble.serve.metrics import Metrics
from nybble.serve.processor import Lane
from nybble.serve.rpc import inference_pb2 as messages

PHOTOS = [photo(seed) for seed in range(6)]


def client(server: Inside) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="http://127.0.0.1", timeout=PATIENCE)


def tensors(array: Any) -> dict[str, Any]:
    entry = {"name": "images", "datatype": "UINT8", "shape": array.shape, "data": array.reshape(-1).tolist()}
    return {"inputs": [entry]}


def encoded(contents: list[bytes]) -> dict[str, Any]:
    data = [base64.b64encode(content).decode() for content in contents]
    return {"inputs": [{"name": "photos", "datatype": "BYTES", "shape": [len(data)], "data": data}]}


def logits_of(answer: httpx.Response) -> Any:
    (output,) = answer.raise_for_status().json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def classified(file: Path, folder: Path) -> list[Any]:
    """What ``nybble classify`` says of the photos."""
    paths = [folder / f"{number}.png" for number in range(len(PHOTOS))]
    for path, content in zip(paths, PHOTOS, strict=True):
        path.write_bytes(content)
    done = CliRunner().invoke(app, ["classify", str(file), *map(str, paths), "--json", "--threads", "1"])
    assert done.exit_code == 0, done.output
    return [each["predictions"] for each in json.loads(done.stdout)["photos"]]


@pytest.mark.parametrize(
    ("kind", "second", "shape"),
    [
        ("cascade", {}, [-1, 32, 32, 3]),
        ("cascade", {"interpolation": "nearest"}, [-1, 32, 32, 3]),
        ("mean", {"image": 40}, [-1, 3 * (32 * 32 + 40 * 40)]),
    ],
    ids=["alike", "resized", "cropped"],
)
def test_answers_are_the_ensembles(tmp_path: Path, kind: str, second: dict[str, Any], shape: list[int]) -> None:
    """Crops and encoded photos, although they run together, and as ``nybble classify`` says."""
    file = write_ensemble(tmp_path, kind, **second)
    with load(file, threads=1) as engine:
        assert isinstance(engine, Ensemble)
        photos = np.stack([engine.prepare(content) for content in PHOTOS])
        crops = images(4, 7) if engine.crop_shape else photos[:4]
        logits, of_crops = engine(photos), engine(crops)
        asked = np.concatenate([engine.answers(each).asked for each in (crops[:1], crops, photos, photos)])

    async def run() -> None:
        async with inside(file, batch=16) as server, client(server) as http:
            served = server.service.repository.get("tiny")
            for form in (False, True):
                ParseDict(model_config(served, form), messages.ModelConfig())
            metadata = (await http.get("/v2/models/tiny")).json()
            assert (metadata["inputs"][0]["shape"], metadata["outputs"][0]["shape"]) == (shape, [-1, 6])
            first = asyncio.create_task(http.post("/v2/models/tiny/infer", json=tensors(crops[:1])))
            await asyncio.to_thread(server.gate.entered.wait, PATIENCE)
            both = [
                asyncio.create_task(http.post("/v2/models/tiny/infer", json=tensors(crops))),
                asyncio.create_task(http.post("/v2/models/tiny.photos/infer", json=encoded(PHOTOS))),
            ]
            while served.lane.queue.photos < len(crops) + len(PHOTOS):
                await asyncio.sleep(0.01)
            server.gate.opened.set()
            assert np.array_equal(logits_of(await first), of_crops[:1])
            assert np.array_equal(logits_of(await both[0]), of_crops)
            assert np.array_equal(logits_of(await both[1]), logits)
            assert server.gate.sizes == [1, 10]
            document = {"photos": encoded(PHOTOS)["inputs"][0]["data"]}
            answer = (await http.post("/v1/classify", json=document)).raise_for_status().json()
            assert [each["predictions"] for each in answer["photos"]] == classified(file, tmp_path)
            text = server.service.metrics.text().decode()
            counts = [int((asked > place).sum()) for place in range(2)]
            for place, count in enumerate(counts):
                series = f'nybble_member_photos_total{{member="{place + 1}: net{place}",model="tiny"}}'
                assert f"{series} {count}.0\n" in text
            assert counts[0] == 17 and (counts[1] == 17 if kind == "mean" else 0 < counts[1] < 17)

    asyncio.run(run())


def test_an_ensemble_is_loaded_anew_with_its_file(tmp_path: Path) -> None:
    file = write_ensemble(tmp_path)
    text = file.read_text()
    crops = images(4, 7)

    async def run() -> None:
        async with inside(file) as server, client(server) as http:
            server.gate.opened.set()
            before = logits_of(await http.post("/v2/models/tiny/infer", json=tensors(crops)))
            file.write_text(text.replace(f"temperature = {HEAT}", f"temperature = {3 * HEAT}"))
            (await http.post("/v2/repository/models/tiny/load")).raise_for_status()
            with load(file, threads=1) as engine:
                wanted = engine(crops)
            after = logits_of(await http.post("/v2/models/tiny/infer", json=tensors(crops)))
            assert np.array_equal(after, wanted) and not np.array_equal(after, before)
            file.write_text(text.replace("net1", "net9"))
            refused = await http.post("/v2/repository/models/tiny/load")
            assert refused.status_code == 400
            assert "field member.1.model: net9: there is no such folder" in refused.json()["error"]
            assert np.array_equal(logits_of(await http.post("/v2/models/tiny/infer", json=tensors(crops))), wanted)

    asyncio.run(run())


def test_batches_reckon_with_photos_that_all_members_are_asked_about() -> None:
    """One photo in four was deferred: the mean photo takes 3.5 ms, a deferred one 11."""
    answers = Answers(np.full((4, 2), 0.5), np.array([1, 1, 2, 1]), np.array([0.004, 0.010]))
    ensemble = Mock(members=[Mock(), Mock()], answers=Mock(return_value=answers))
    members = Members("both", ensemble, Metrics())
    lane = Lane("both", members.run, 8, dearest=members.dearest)
    assert lane.longest == 0
    lane.run(np.zeros((4, 1), np.uint8))
    lane.ran(4, 0.014)
    assert lane.seconds == pytest.approx(0.0035)
    assert lane.longest == pytest.approx(0.011)
    plain = Lane("one", members.run, 8)
    plain.ran(4, 0.014)
    assert plain.longest == pytest.approx(0.0035)


def test_the_command_takes_ensembles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its file, by another name, by a file of settings, and by ``NYBBLE_MODEL``."""
    import nybble.serve

    file = write_ensemble(tmp_path)
    (tmp_path / "serve.toml").write_text('[models.own]\npath = "both.toml"\n')
    seen: list[dict[str, str]] = []

    def run(settings: Any, told: Any) -> None:
        seen.append({name: model.path for name, model in settings.models.items()})

    monkeypatch.setattr(nybble.serve, "run", run)
    monkeypatch.setenv("NYBBLE_MODEL", str(file))
    for arguments in ([str(file)], [f"mine={file}"], ["--config", str(tmp_path / "serve.toml")], []):
        done = CliRunner().invoke(app, ["serve", *arguments])
        assert done.exit_code == 0, done.output
    assert seen == [{name: str(file)} for name in ("both", "mine", "own", "both")]
