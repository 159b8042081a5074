"""Bodies of REST, as they are checked and as OpenAPI describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr


class InputParameters(BaseModel):
    """Parameters of an input; others are passed over."""

    binary_data_size: StrictInt | None = Field(None, ge=0, description="Bytes of this input behind the JSON.")


class RequestInput(BaseModel):
    """An input: its elements as nested or flat lists, or as bytes behind the JSON."""

    name: StrictStr
    shape: list[StrictInt] = Field(max_length=8)
    datatype: StrictStr
    parameters: InputParameters = InputParameters(binary_data_size=None)
    data: list[Any] | None = Field(None, description="UINT8: integers; BYTES: base64.")


class OutputParameters(BaseModel):
    """Parameters of an output; others are passed over."""

    binary_data: StrictBool | None = None
    classification: StrictInt | None = Field(None, ge=0, le=1_000_000)


class RequestOutput(BaseModel):
    """An output that is wanted."""

    name: StrictStr
    parameters: OutputParameters = OutputParameters(binary_data=None, classification=None)


class RequestParameters(BaseModel):
    """Parameters of a request; others are passed over."""

    timeout: StrictInt | None = Field(None, ge=0, le=1 << 62, description="Microseconds.")
    binary_data_output: StrictBool = False


class InferRequest(BaseModel):
    """A request of the Open Inference Protocol."""

    id: StrictStr = ""
    inputs: list[RequestInput]
    outputs: list[RequestOutput] = []
    parameters: RequestParameters = RequestParameters(timeout=None)


class ResponseOutput(BaseModel):
    """An output; its bytes are behind the JSON where ``binary_data_size`` says so."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | list[str] | None = None
    parameters: dict[str, int] | None = None


class InferResponse(BaseModel):
    """The answer to an :class:`InferRequest`."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class ClassifyRequest(BaseModel):
    """Photos as base64."""

    model_config = ConfigDict(extra="forbid")

    photos: list[StrictStr] = Field(min_length=1, description="Encoded photos (JPEG, PNG, ...) in base64.")


class Class(BaseModel):
    """A class of an answer."""

    index: int
    name: str
    score: float = Field(description="Softmax probability.")


class Classified(BaseModel):
    """A photo's answer."""

    file: str | None = Field(None, description="The name that a multipart body gives.")
    predictions: list[Class]


class ClassifyResponse(BaseModel):
    """The answers, in the order of the photos."""

    model: str
    version: str
    photos: list[Classified]


class PredictResponse(BaseModel):
    """The answers, in the order of the photos; what each has depends on the task."""

    model: str
    version: str
    task: str
    photos: list[dict[str, Any]]


class Error(BaseModel):
    """Why a request is refused."""

    error: str
    index: int | None = Field(None, description="The photo that cannot be used.")


class ServerMetadata(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or an output; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexRequest(BaseModel):
    """Which models to list."""

    ready: StrictBool = False


class IndexEntry(BaseModel):
    """A version of a model."""

    name: str
    version: str
    state: str
    reason: str


class ModelStatistics(BaseModel):
    """Counts and times."""

    model_stats: list[dict[str, Any]]
