"""Networks of every kind of task behind a server: tensors by name, and answers as ``nybble predict`` gives them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from servers import Running, running

from nybble.engine import load
from nybble.tasks import Restored, Segmentation
from tiny_tasks import COLUMNS, ROWS, TASKS, encoded, picture, write_network

KINDS = list(TASKS)
TYPES = {"FP32": "<f4", "INT8": "i1"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_network(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def task_server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    given = [f"{kind}={path}" for kind, path in models.items()]
    with running(*given, log=tmp_path_factory.mktemp("server") / "log") as found:
        yield found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_binary", [False, True])
def test_tensors_of_all_outputs(task_server: Running, models: dict[str, Path], kind: str, is_binary: bool) -> None:
    photos = np.random.default_rng(3).integers(0, 256, (3, ROWS, COLUMNS, 3), dtype=np.uint8)
    with load(models[kind], threads=1) as engine:
        expected = engine.run(photos)
    described = httpx.get(f"{task_server.url}/v2/models/{kind}").json()["outputs"]
    assert [output["name"] for output in described] == list(expected)
    entry = {"name": "images", "shape": list(photos.shape), "datatype": "UINT8", "data": photos.reshape(-1).tolist()}
    request = {"inputs": [entry], "parameters": {"binary_data_output": is_binary}}
    answer = httpx.post(f"{task_server.url}/v2/models/{kind}/infer", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    outputs, rest = json.loads(answer.content[:length])["outputs"], answer.content[length:]
    for output, about in zip(outputs, described, strict=True):
        want = expected[output["name"]]
        assert output["shape"] == list(want.shape) and about["shape"] == [-1, *want.shape[1:]]
        assert output["datatype"] == about["datatype"]
        if is_binary:
            size = output["parameters"]["binary_data_size"]
            found, rest = np.frombuffer(rest[:size], TYPES[output["datatype"]]), rest[size:]
        else:
            found = np.array(output["data"], TYPES[output["datatype"]])
        np.testing.assert_array_equal(found.reshape(want.shape), want)
    assert not rest


def test_one_output_is_asked_for(task_server: Running) -> None:
    entry = {
        "name": "photos",
        "shape": [1],
        "datatype": "BYTES",
        "data": [base64.b64encode(encoded(picture())).decode()],
    }
    request = {"inputs": [entry], "outputs": [{"name": "codes"}]}
    answer = httpx.post(f"{task_server.url}/v2/models/detect.photos/infer", json=request, timeout=60).json()
    assert [output["name"] for output in answer["outputs"]] == ["codes"]
    for output, message in (
        ({"name": "logits"}, "there is no output 'logits'; this model has 'boxes', 'masks', 'image', 'codes'"),
        ({"name": "masks", "parameters": {"classification": 2}}, "does not classify"),
    ):
        refused = httpx.post(
            f"{task_server.url}/v2/models/detect.photos/infer",
            json={"inputs": [entry], "outputs": [output]},
            timeout=60,
        )
        assert refused.status_code == 400 and message in refused.json()["error"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_predict_answers_as_the_command_does(task_server: Running, models: dict[str, Path], kind: str) -> None:
    photos = [picture(seed, size) for seed, size in ((0, (50, 40)), (1, (20, 70)))]
    files = [("photos", (f"{place}.png", encoded(photo))) for place, photo in enumerate(photos)]
    address = f"{task_server.url}/v1/predict?model={kind}&images=true"
    answer = httpx.post(address, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["model"], said["task"]) == (kind, kind)
    with load(models[kind], threads=1) as engine:
        for place, (photo, found) in enumerate(zip(photos, said["photos"], strict=True)):
            want = engine.predict(photo)
            image = found.pop("image", None)
            assert found == {"file": f"{place}.png", **json.loads(json.dumps(want.to_json()))}
            assert (image is not None) == (kind in ("segment", "restore"))
            if image is not None:
                assert isinstance(want, Segmentation | Restored)
                drawn = want.mask() if isinstance(want, Segmentation) else want.image()
                assert Image.open(io.BytesIO(base64.b64decode(image))).tobytes() == drawn.tobytes()


def test_a_score_bounds_the_boxes(task_server: Running) -> None:
    def boxes(score: float) -> list[float]:
        address = f"{task_server.url}/v1/predict?model=detect&score={score}"
        answer = httpx.post(address, content=encoded(picture()), headers={"content-type": "image/png"}, timeout=60)
        return [box["score"] for box in answer.json()["photos"][0]["boxes"]]

    assert min(boxes(0.0)) < 0.6 <= min(boxes(0.6), default=1.0)


def test_what_cannot_be_said_is_refused_in_one_line(task_server: Running) -> None:
    headers = {"content-type": "image/png"}
    for address, message in (
        ("/v1/predict?model=none", "has no task that says what its outputs mean; POST /v2/models/none/infer"),
        ("/v1/classify?model=segment", "does not classify; POST /v1/predict"),
    ):
        answer = httpx.post(task_server.url + address, content=encoded(picture()), headers=headers, timeout=60)
        assert answer.status_code == 400
        assert message in answer.json()["error"] and "\n" not in answer.json()["error"]
    broken = httpx.post(f"{task_server.url}/v1/predict?model=detect", content=b"no photo", headers=headers, timeout=60)
    assert broken.status_code == 400 and broken.json()["index"] == 0


def test_the_configuration_lists_the_outputs(task_server: Running) -> None:
    config = httpx.get(f"{task_server.url}/v2/models/segment/config").json()
    shapes = {output["name"]: (output["data_type"], output["dims"]) for output in config["output"]}
    assert shapes["masks"] == ("TYPE_FP32", [4, ROWS, COLUMNS]) and shapes["codes"] == ("TYPE_INT8", [6, ROWS, COLUMNS])
