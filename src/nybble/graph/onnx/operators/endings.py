"""Round, and Softmax, which is left out at the end of a network."""

from __future__ import annotations

import numpy as np
import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Value


@reads("Round", rearranges=True)
def whole(importer: Importing, node: onnx.NodeProto) -> Value:
    """Round: to whole numbers, which a QuantizeLinear behind may do anyway."""
    real = importer.real(node, 0)
    quantizers, others = importer.behind(node)
    if quantizers and not others and all(np.all(entry.scales == 1) and not entry.added for entry in quantizers):
        # QuantizeLinear rounds whole numbers to themselves.
        return real
    return importer.build.rounded_sum(real, label(node))


#: What may be between a Softmax that is left out and the output.
_ENDINGS = ("Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze")


@reads("LogSoftmax", "Softmax")
def softmax(importer: Importing, node: onnx.NodeProto) -> Value:
    """Left out at the end, with what quantizes the probabilities: the order of the logits is the same."""
    tail, names = set(), [node.output[0]]
    while names:
        name = names.pop()
        for reader in importer.readers.get(name, []):
            if reader.op_type not in _ENDINGS or reader.input[0] != name or not reader.output:
                raise OnnxImportError(f"{node.op_type} inside the network is not supported", node=label(node))
            tail.add(reader.output[0])
            names.append(reader.output[0])
    importer.tail |= tail
    importer.notes.append(f"{label(node)}: the {node.op_type} at the end was left out; outputs are logits")
    return importer.value(node, 0)
