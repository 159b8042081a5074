"""The forms that an operation has in ATen and in ONNX: tables of handlers, filled by decorators."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

#: Of ATen it takes the result's shape and a call's arguments, of ONNX a node and what that reads. It returns what a
#: builder of the vocabulary does, or ``None`` where another operation must know the call.
Handler: TypeAlias = Callable[..., Any]
_H = TypeVar("_H", bound=Handler)


@dataclass(frozen=True)
class AtenForm:
    """One ATen operation.

    Attributes
    ----------
    handler : callable
    stacks : bool
        Whether it reads values that are stacked on a new axis.
    """

    handler: Handler
    stacks: bool = False
    signature: inspect.Signature = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", inspect.signature(self.handler))


@dataclass(frozen=True)
class OnnxForm:
    """One ONNX operator, and what its inputs must be before the handler sees them.

    Attributes
    ----------
    handler : callable
    integers, numbers : sequence of int
        Places of inputs that are lists of integers, or one number.
    empty : sequence of int
        Places of constants that may be empty, which says the same as leaving them out.
    ranks : mapping of int to int
        Dimensions of inputs that are weights, by place.
    weight : int or None
        Place of the input whose name the layer takes.
    check : callable, optional
        Takes the node and its inputs, and raises ``Unsupported`` if they do not belong together.
    per_image : callable, optional
        Takes the node and its inputs, in which shapes and axes are those of a batch, and returns both for one image.
    stacks : bool
        Whether it reads values that are stacked on a new axis.
    """

    handler: Handler
    integers: Sequence[int] = ()
    numbers: Sequence[int] = ()
    empty: Sequence[int] = ()
    ranks: Mapping[int, int] = field(default_factory=dict)
    weight: int | None = None
    check: Callable[..., None] | None = None
    per_image: Callable[..., Any] | None = None
    stacks: bool = False


class Forms:
    """Handlers of one operation, by ATen operation with its overload and by ONNX operator.

    Attributes
    ----------
    of_aten : dict of str to AtenForm
        Such as ``relu.default``.
    of_onnx : dict of str to OnnxForm
    """

    def __init__(self) -> None:
        self.of_aten: dict[str, AtenForm] = {}
        self.of_onnx: dict[str, OnnxForm] = {}

    def aten(self, *targets: str, stacks: bool = False) -> Callable[[_H], _H]:
        """The function below is the handler of these ATen operations."""

        def add(handler: _H) -> _H:
            self.of_aten.update(dict.fromkeys(targets, AtenForm(handler, stacks)))
            return handler

        return add

    def onnx(
        self,
        *operators: str,
        integers: Sequence[int] = (),
        numbers: Sequence[int] = (),
        empty: Sequence[int] = (),
        ranks: Mapping[int, int] | None = None,
        weight: int | None = None,
        check: Callable[..., None] | None = None,
        per_image: Callable[..., Any] | None = None,
        stacks: bool = False,
    ) -> Callable[[_H], _H]:
        """The function below is the handler of these ONNX operators; see :class:`OnnxForm` for the rest."""

        def add(handler: _H) -> _H:
            form = OnnxForm(handler, integers, numbers, empty, ranks or {}, weight, check, per_image, stacks)
            self.of_onnx.update(dict.fromkeys(operators, form))
            return handler

        return add
