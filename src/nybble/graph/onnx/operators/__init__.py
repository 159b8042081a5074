"""The meaning of each ONNX operator in a graph: one file per family, each of which registers its readers.

A new family is a file here and one line below. If an operator corresponds to one operation, the operation can read it:
see :attr:`nybble.graph.ops.Operation.onnx_operators`.
"""

from nybble.graph.onnx.operators import affine as _affine  # noqa: F401
from nybble.graph.onnx.operators import by_sign as _by_sign  # noqa: F401
from nybble.graph.onnx.operators import clipping as _clipping  # noqa: F401
from nybble.graph.onnx.operators import concat as _concat  # noqa: F401
from nybble.graph.onnx.operators import elementwise as _elementwise  # noqa: F401
from nybble.graph.onnx.operators import endings as _endings  # noqa: F401
from nybble.graph.onnx.operators import pooling as _pooling  # noqa: F401
from nybble.graph.onnx.operators import quantization as _quantization  # noqa: F401
from nybble.graph.onnx.operators import shapes as _shapes  # noqa: F401
from nybble.graph.onnx.operators import split as _split  # noqa: F401
from nybble.graph.onnx.operators import sums as _sums  # noqa: F401
from nybble.graph.onnx.operators import weighted as _weighted  # noqa: F401
from nybble.graph.onnx.operators.registry import known_operators as known_operators
from nybble.graph.onnx.operators.registry import reads as reads
