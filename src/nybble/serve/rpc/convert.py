"""Messages to requests, and answers to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nybble.serve.classification import classification
from nybble.serve.errors import BadRequestError
from nybble.serve.results import DATATYPES
from nybble.serve.rpc import inference_pb2 as messages
from nybble.serve.served import Served
from nybble.serve.service import Answer
from nybble.serve.tensors import BYTES, UINT8, InferCall, Tensor, Wanted, join_bytes, little_endian, timeout_of

#: The field of typed contents of each datatype.
_CONTENTS = {UINT8: "uint_contents", BYTES: "bytes_contents"}


def to_call(request: messages.ModelInferRequest) -> InferCall:
    """The request of a message. Raises :class:`BadRequestError`."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadRequestError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    inputs = [
        Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), raw[index] if raw else _contents(tensor))
        for index, tensor in enumerate(request.inputs)
    ]
    outputs = [
        Wanted(output.name, _integer(output.parameters, "classification"), is_binary=True) for output in request.outputs
    ]
    return InferCall(inputs, outputs, request.id, timeout_of(_integer(request.parameters, "timeout")))


def to_response(served: Served, name: str, call: InferCall, answer: Answer) -> messages.ModelInferResponse:
    """The message of an answer; tensors are raw contents."""
    response = messages.ModelInferResponse(model_name=name, model_version=answer.version, id=call.id)
    for wanted in answer.outputs:
        if wanted.classes:
            shape, elements = classification(answer.tensors[wanted.name], wanted.classes, served.class_names)
            response.outputs.add(name=wanted.name, datatype=BYTES, shape=shape)
            response.raw_output_contents.append(join_bytes(elements))
        else:
            tensor = answer.tensors[wanted.name]
            response.outputs.add(name=wanted.name, datatype=DATATYPES[tensor.dtype.name], shape=tensor.shape)
            response.raw_output_contents.append(little_endian(tensor))
    return response


def _contents(tensor: Any) -> list[Any]:
    field = _CONTENTS.get(tensor.datatype)
    return [] if field is None else list(getattr(tensor.contents, field))


def _integer(parameters: Mapping[str, messages.InferParameter], name: str) -> int:
    """A parameter that is a number, 0 where there is none."""
    if name not in parameters:
        return 0
    choice = parameters[name].WhichOneof("parameter_choice")
    value = getattr(parameters[name], choice) if choice in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise BadRequestError(f"parameter {name} is not a non-negative number")
    return int(value)
