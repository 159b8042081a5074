"""The base of all pages: the template that they extend, its colours, and a function that fills templates."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nybble.report.palette import stylesheet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def has_jinja() -> bool:
    """Whether the package is there that fills templates."""
    return find_spec("jinja2") is not None


def render(template: str, filters: Mapping[str, Callable[..., str]], **content: Any) -> str:
    """A template of this folder, filled; everything that is not markup already is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page: str = environment.get_template(template).render(light=stylesheet(0), dark=stylesheet(1), **content)
    return page
