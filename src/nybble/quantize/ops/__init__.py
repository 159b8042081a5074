"""Float operations: one file each, with everything that quantization needs to know about it.

:mod:`nybble.quantize.ops.base` describes how to add one. One of nybble is a file here and one line below.
"""

from nybble.quantize.ops import add as add
from nybble.quantize.ops import affine as affine
from nybble.quantize.ops import avg_pool as avg_pool
from nybble.quantize.ops import batch_norm as batch_norm
from nybble.quantize.ops import channel_division as channel_division
from nybble.quantize.ops import concat as concat
from nybble.quantize.ops import conv as conv
from nybble.quantize.ops import conv_transpose as conv_transpose
from nybble.quantize.ops import linear as linear
from nybble.quantize.ops import max_pool as max_pool
from nybble.quantize.ops import mul as mul
from nybble.quantize.ops import pad as pad
from nybble.quantize.ops import picked_channels as picked_channels
from nybble.quantize.ops import prelu as prelu
from nybble.quantize.ops import relu as relu
from nybble.quantize.ops import resize as resize
from nybble.quantize.ops import result as result
from nybble.quantize.ops import rounding as rounding
from nybble.quantize.ops import shuffle as shuffle
from nybble.quantize.ops import softmax as softmax
from nybble.quantize.ops import table as table
from nybble.quantize.ops import views as views
from nybble.quantize.ops.base import FloatOperation as FloatOperation
from nybble.quantize.ops.forms import Forms as Forms
from nybble.quantize.ops.registry import aten_forms as aten_forms
from nybble.quantize.ops.registry import onnx_forms as onnx_forms
from nybble.quantize.ops.registry import onnx_operators as onnx_operators
from nybble.quantize.ops.registry import operation_of as operation_of
from nybble.quantize.ops.registry import operation_of_module as operation_of_module
from nybble.quantize.ops.registry import operation_of_node as operation_of_node
from nybble.quantize.ops.registry import operations as operations
from nybble.quantize.ops.registry import register as register
from nybble.quantize.ops.registry import rewrite as rewrite
from nybble.quantize.ops.registry import unregister as unregister
