"""The description of a model for clients: its metadata and its configuration, in Triton's form."""

from __future__ import annotations

from typing import Any

import nybble
from nybble.serve.served import Served
from nybble.serve.settings import PHOTOS
from nybble.serve.tensors import BYTES, UINT8

#: Names of the inputs.
IMAGES, ENCODED = "images", "photos"
#: The extensions of the protocol that this server has.
EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "statistics",
    "model_repository",
    "model_configuration",
)
_PLATFORM = "nybble"


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "nybble", "version": nybble.__version__, "extensions": list(EXTENSIONS)}


def public_name(served: Served, encoded: bool) -> str:
    """The name that clients use."""
    return served.name + PHOTOS if encoded else served.name


def input_of(encoded: bool) -> str:
    """The name of the input."""
    return ENCODED if encoded else IMAGES


def model_metadata(served: Served, encoded: bool, versions: list[str]) -> dict[str, Any]:
    """Inputs and outputs of a model."""
    shape = [-1] if encoded else [-1, *served.tensor_shape]
    return {
        "name": public_name(served, encoded),
        "versions": versions,
        "platform": _PLATFORM,
        "inputs": [{"name": input_of(encoded), "datatype": BYTES if encoded else UINT8, "shape": shape}],
        "outputs": [
            {"name": output.name, "datatype": output.datatype, "shape": [-1, *output.shape]}
            for output in served.outputs
        ],
    }


def model_config(served: Served, encoded: bool) -> dict[str, Any]:
    """The configuration of a model. Of encoded photos the first dimension counts them, so it has no batch size."""
    photos = {"name": ENCODED, "data_type": "TYPE_STRING", "dims": [-1]}
    dims = list(served.tensor_shape)
    layout = "FORMAT_NHWC" if len(dims) == 3 else "FORMAT_NONE"
    images = {"name": IMAGES, "data_type": "TYPE_UINT8", "format": layout, "dims": dims}
    return {
        "name": public_name(served, encoded),
        "platform": _PLATFORM,
        "backend": _PLATFORM,
        "max_batch_size": 0 if encoded else served.places.limit,
        "input": [photos if encoded else images],
        "output": [
            {
                "name": output.name,
                "data_type": f"TYPE_{output.datatype}",
                "dims": [-1, *output.shape] if encoded else list(output.shape),
            }
            for output in served.outputs
        ],
        "dynamic_batching": {"preferred_batch_size": [served.lane.limit], "max_queue_delay_microseconds": 0},
        "instance_group": [{"name": "cpu", "kind": "KIND_CPU", "count": 1}],
    }
