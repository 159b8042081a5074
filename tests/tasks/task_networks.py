"""Tasks and preprocessing of the float networks in the shared data, and their outputs by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nybble.graph import Detect, Preprocessing, Restore, Segment
from nybble.images import Fit, decode_photo, fit_photo

FASTESTDET = Detect(
    classes=80,
    boxes=("758",),
    scores=("758",),
    objectness=("758",),
    box_first=1,
    score_first=5,
    strides=(16,),
    centre="tanh",
    size="sigmoid",
    unit="image",
    score_power=0.4,
    objectness_power=0.6,
    nms_threshold=0.45,
    score_threshold=0.05,
)
FASTESTDET_INPUT = Preprocessing(
    crop=(352, 352), fit="stretch", channel_order="BGR", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)
YOLOX = Detect(
    classes=80,
    boxes=("output",),
    scores=("output",),
    objectness=("output",),
    objectness_first=4,
    score_first=5,
    layout="rows",
    strides=(8, 16, 32),
    nms_threshold=0.6,
    score_threshold=0.01,
)
YOLOX_INPUT = Preprocessing(
    crop=(416, 416), fit="letterbox", channel_order="BGR", mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255)
)
ESPNET = Segment("445", void=11)
ESPNET_INPUT = Preprocessing(
    crop=(360, 480),
    fit="stretch",
    channel_order="BGR",
    mean=(109.98 / 255, 108.19 / 255, 104.80 / 255),
    std=(78.03, 79.14, 78.08),
)
DNCNN = Restore("noise", form="residual")


class OnnxNetwork:
    """A float network in ONNX Runtime."""

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._preprocessing = preprocessing

    def __call__(self, photo: Path) -> tuple[dict[str, np.ndarray], Fit]:
        """Its outputs for one photo by name, without the batch axis, and where the photo lies in the input."""
        samples, fit = fit_photo(decode_photo(photo, exif=False), self._preprocessing)
        batch = self._preprocessing.normalise(samples[None]).transpose(0, 3, 1, 2)
        (given,) = (entry.name for entry in self._session.get_inputs())
        names = [entry.name for entry in self._session.get_outputs()]
        found = self._session.run(names, {given: np.ascontiguousarray(batch)})
        return {name: values[0] for name, values in zip(names, found, strict=True)}, fit


def dncnn(path: Path) -> object:
    """The denoiser as a torch module: 17 convolutions with ReLU between."""
    import torch

    weights = torch.load(path, weights_only=True)
    layers: list[torch.nn.Module] = []
    for index in range(0, 2 * 17, 2):
        weight = weights[f"model.{index}.weight"]
        layers += [torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    network.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    return network.eval()


def gray(path: Path) -> np.ndarray:
    """float32 (rows, columns), 0 to 1."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
