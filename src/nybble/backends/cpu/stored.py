"""The form of tuned choices on disk. It stands apart so that pydantic loads only where such a file is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.key import Key

#: Channel counts end far below; larger numbers would not fit an index.
_Position = Annotated[int, Field(ge=0, lt=1 << 31)]


class Header(BaseModel):
    """What every version of the file has."""

    format: int


class StoredChoices(BaseModel):
    """The file. An order stands once for all values that share it, under the first one's name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: int
    key: Key
    kernels: dict[str, Kernel]
    orders: dict[str, list[_Position]]
