"""An ONNX file as a module: what PyTorch's evaluation and distillation need of the float network."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from torch import Tensor, nn

from nybble.quantize.ir.float_network import FloatNetwork, RecordedModule
from nybble.quantize.sources.onnx.model import OnnxModel, read_onnx
from nybble.quantize.sources.onnx.network import build

#: Rows and columns that a file which takes any is checked with.
_SIZE = 224


class OnnxModule(RecordedModule):
    """Runs the network of an ONNX file; :func:`~nybble.quantize.sources.pytorch.capture.capture` takes it.

    Parameters
    ----------
    model : OnnxModel

    Attributes
    ----------
    image_size : (int, int) or None
        Rows and columns, where the file fixes them.
    channels : int
    """

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        self._model = model
        self.channels = model.channels
        self.image_size = model.image_size
        self._use(build(model, self.image_size or (_SIZE, _SIZE)))

    def recorded(self, input_shape: tuple[int, int, int]) -> FloatNetwork:
        """The network for images of a shape (C, H, W).

        Raises
        ------
        SourceError
            If the file's images have another shape, or it does not fit this one.
        """
        if input_shape != self.network.input_shape:
            device = next(self.buffers()).device
            self._use(build(self._model, (input_shape[1], input_shape[2]), input_shape[0]))
            self.to(device)
        self._take_over()
        return self.network

    def _use(self, network: FloatNetwork) -> None:
        self.network = network
        # As buffers the tensors move between devices with the module, and count as its size.
        for place, op in enumerate(network):
            for entry in fields(op):
                value = getattr(op, entry.name)
                if isinstance(value, Tensor):
                    self.register_buffer(f"{place}_{entry.name}", value)

    def _take_over(self) -> None:
        for name, value in self.named_buffers():
            place, _, attribute = name.partition("_")
            setattr(self.network.ops[int(place)], attribute, value)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        _, channels, rows, columns = x.shape
        return self.recorded((channels, rows, columns))(x).flatten(1)


def load_onnx(path: Path, output: str | None = None) -> nn.Module:
    """Read a float classifier.

    Parameters
    ----------
    path : Path
    output : str, optional
        Which of the outputs to take, where the file has several.

    Returns
    -------
    OnnxModule
        In evaluation mode.

    Raises
    ------
    SourceError
        If the file is damaged, or naming the node that is not supported and what to do.
    """
    return OnnxModule(read_onnx(path, output)).eval()
