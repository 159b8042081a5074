"""Bodies of inference: JSON, with the binary tensors of Triton's extension behind it."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from typing import Any

import numpy as np
from pydantic import ValidationError

from nybble.serve.classification import classification
from nybble.serve.errors import BadRequestError
from nybble.serve.rest.schemas import InferRequest, RequestInput
from nybble.serve.results import DATATYPES
from nybble.serve.served import Served
from nybble.serve.service import Answer
from nybble.serve.tensors import BYTES, InferCall, Tensor, Wanted, join_bytes, little_endian, timeout_of

#: The header that says how many bytes of a body are JSON.
JSON_LENGTH = "inference-header-content-length"
#: Bodies of so many bytes are parsed in a thread: others go on meanwhile.
_LONG = 1 << 20
#: JSON of so many bytes or less before binary tensors is kept with what it says: a client mostly repeats it.
_KEPT = 1024


async def parse_apart(body: bytes | memoryview | bytearray, json_length: str | None) -> InferCall:
    """As :func:`parse`, in a thread where the body is long."""
    return await asyncio.to_thread(parse, body, json_length) if len(body) > _LONG else parse(body, json_length)


def parse(body: bytes | memoryview | bytearray, json_length: str | None) -> InferCall:
    """The request of a body.

    Parameters
    ----------
    body : bytes, memoryview or bytearray
    json_length : str or None
        The value of the header :data:`JSON_LENGTH`.

    Raises
    ------
    BadRequestError
        Naming the field.
    """
    view = memoryview(body)
    length = len(body)
    if json_length is not None:
        if not json_length.isdecimal() or int(json_length) > len(body):
            raise BadRequestError(f"{JSON_LENGTH}: {json_length[:20]!r} is not a length within the body")
        length = int(json_length)
    # What follows only reads the request.
    read = _kept_request if length <= _KEPT and length < len(body) else _read_request
    request = read(bytes(view[:length]))
    binary = view[length:]
    inputs: list[Tensor] = []
    for entry in request.inputs:
        content, binary = _content(entry, binary)
        inputs.append(Tensor(entry.name, entry.datatype, tuple(entry.shape), content))
    if len(binary):
        raise BadRequestError(f"{len(binary)} bytes behind the JSON belong to no input")
    outputs = [
        Wanted(
            output.name,
            output.parameters.classification or 0,
            request.parameters.binary_data_output
            if output.parameters.binary_data is None
            else output.parameters.binary_data,
        )
        for output in request.outputs
    ]
    timeout = timeout_of(request.parameters.timeout or 0)
    return InferCall(inputs, outputs, request.id, timeout, request.parameters.binary_data_output)


def _read_request(text: bytes) -> InferRequest:
    request: InferRequest = parse_json(InferRequest, text)
    return request


_kept_request = functools.lru_cache(maxsize=256)(_read_request)


def parse_json(model: type[Any], body: bytes) -> Any:
    """A checked JSON document. Raises :class:`BadRequestError` naming the field."""
    try:
        return model.model_validate(json.loads(body))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, problem["loc"]))
        raise BadRequestError(f"{field or 'body'}: {problem['msg']}") from None
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON") from None


def compose(served: Served, name: str, call: InferCall, answer: Answer) -> tuple[bytes, int | None]:
    """The body of an answer, and how many bytes of it are JSON where tensors follow."""
    if not call.id and all(wanted.is_binary and not wanted.classes for wanted in answer.outputs):
        tensors = [(wanted.name, answer.tensors[wanted.name]) for wanted in answer.outputs]
        text = _binary_header(
            name, answer.version, tuple((output, tensor.dtype, tensor.shape) for output, tensor in tensors)
        )
        return b"".join([text, *(little_endian(tensor) for _, tensor in tensors)]), len(text)
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for wanted in answer.outputs:
        entry: dict[str, Any] = {"name": wanted.name}
        if wanted.classes:
            shape, elements = classification(answer.tensors[wanted.name], wanted.classes, served.class_names)
            entry |= {"datatype": BYTES, "shape": shape}
            raw = join_bytes(elements) if wanted.is_binary else b""
            data: list[Any] = [element.decode() for element in elements]
        else:
            tensor = answer.tensors[wanted.name]
            entry |= {"datatype": DATATYPES[tensor.dtype.name], "shape": list(tensor.shape)}
            raw = little_endian(tensor) if wanted.is_binary else b""
            data = [] if wanted.is_binary else tensor.reshape(-1).tolist()
        if wanted.is_binary:
            entry["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            entry["data"] = data
        outputs.append(entry)
    header: dict[str, Any] = {"model_name": name, "model_version": answer.version, "outputs": outputs}
    if call.id:
        header["id"] = call.id
    text = json.dumps(header).encode()
    return (text + b"".join(binary), len(text)) if binary else (text, None)


@functools.lru_cache(maxsize=256)
def _binary_header(name: str, version: str, tensors: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]) -> bytes:
    """The JSON of an answer whose tensors all follow it. Nearly all of a model are alike."""
    outputs = [
        {
            "name": output,
            "datatype": DATATYPES[dtype.name],
            "shape": list(shape),
            "parameters": {"binary_data_size": math.prod(shape) * dtype.itemsize},
        }
        for output, dtype, shape in tensors
    ]
    return json.dumps({"model_name": name, "model_version": version, "outputs": outputs}).encode()


def _content(entry: RequestInput, binary: memoryview) -> tuple[Any, memoryview]:
    """The content of an input, and the bytes that are left for the next ones."""
    size = entry.parameters.binary_data_size
    if size is None:
        if entry.data is None:
            raise BadRequestError(f"{entry.name}: has neither data nor binary_data_size")
        return entry.data, binary
    if entry.data is not None:
        raise BadRequestError(f"{entry.name}: has both data and binary_data_size")
    if size > len(binary):
        raise BadRequestError(f"{entry.name}: binary_data_size is {size}, but {len(binary)} bytes are left")
    return binary[:size], binary[size:]
