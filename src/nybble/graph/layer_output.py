"""The form of one node in the model directory."""

from __future__ import annotations

from dataclasses import dataclass, field

from nybble.graph.folder import DATA, ROOT
from nybble.graph.lines import LayerText
from nybble.graph.tensor import Tensor


@dataclass
class LayerOutput:
    """A node on disk: its text, and its tensors by path inside ``model/``."""

    file_name: str
    text: LayerText
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add_tensor(self, key: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        """Append a tensor's lines and remember its data file."""
        path = f"{DATA}/{self.file_name}.{key}"
        self.text.add_tensor(key, tensor.dtype, shape, f"{ROOT}/{path}")
        self.tensors[path] = tensor
