"""Parameters of commands that have their type already: typer's conversion loads pydantic, which takes 80 ms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_origin

from typer.core import TyperCommand


class Parameters:
    """Mixed into typer's commands: a conversion that would change nothing is skipped, and usage has no odd brackets."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each with a conversion that may be skipped."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            # Versions of typer without a descriptor convert by click's types, which load nothing.
            if hasattr(param, "type_descriptor") and "process_value" not in vars(param):
                param.process_value = _skipping(param, param.process_value)
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the line of usage: arguments as their help names them, without further brackets."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        for param in self.get_params(ctx):
            for piece in param.get_usage_pieces(ctx) if param.metavar else ():
                pieces[pieces.index(piece)] = param.metavar
        return pieces


class Command(Parameters, TyperCommand):
    """A command of which most parameters are converted without pydantic."""


def _skipping(param: Any, convert: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    annotation = param.type_descriptor.annotation
    is_many = param.multiple or param.nargs != 1

    def process(ctx: Any, value: Any) -> Any:
        if param.required and param.value_is_missing(value):
            return convert(ctx, value)  # Raises the error.
        if value is None:
            value = () if is_many else None
        elif not (
            _are_texts(value, annotation) if is_many else _is_default(param, value) or _is_text(value, annotation)
        ):
            return convert(ctx, value)
        return value if param.callback is None else param.callback(ctx, param, value)

    return process


def _is_text(value: Any, annotation: Any) -> bool:
    return annotation is str and type(value) is str


def _are_texts(values: Any, annotation: Any) -> bool:
    return get_origin(annotation) is list and all(_is_text(value, get_args(annotation)[0]) for value in values)


def _is_default(param: Any, value: Any) -> bool:
    """Whether a value is the default, as written in the code; a default of text may stand for something else."""
    return value is param.default and not isinstance(value, str)
