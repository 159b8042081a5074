"""The form of tuned choices on disk, in a module of its own so that pydantic is imported only if there is a file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.key import Key

#: Far above any number of channels; larger numbers would not fit an index.
_Position = Annotated[int, Field(ge=0, lt=1 << 31)]


class Header(BaseModel):
    """The fields that every version of the file has."""

    format: int


class StoredChoices(BaseModel):
    """The file. It contains an order once for all values that share it, under the name of the first."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: int
    key: Key
    kernels: dict[str, Kernel]
    orders: dict[str, list[_Position]]
