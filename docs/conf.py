"""The documentation site, by Sphinx: `make docs` writes it to build/docs.

Sphinx, MyST and Furo rather than MkDocs: Furo loads nothing from elsewhere, and Sphinx's search index is a script, so
the search works in a folder that was opened from the disk. Material for MkDocs needs a plugin for that, and no longer
gets new features.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT / "src"))

project = "nybble"
author = "The nybble authors"
copyright = author  # noqa: A001 - Sphinx's own name
release = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Optional packages: signatures are the same without them.
autodoc_mock_imports = [name for name in ("torch", "torchvision", "onnx") if find_spec(name) is None]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"nybble {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


def _card(name: str) -> str:
    """The README of a bundled model, its links as those of a page in docs/models."""
    text = (_ROOT / "models" / name / "README.md").read_text(encoding="utf-8")
    text = text.replace("](../../docs/", "](../")
    text = re.sub(r"\]\(\.\./([\w-]+)/README\.md\)", r"](\1.md)", text)
    return re.sub(r"\[([^\]]+)\]\((?:LICENSE|NOTICE)\)", r"\1", text)


def _read(_: Sphinx, page: str, source: list[str]) -> None:
    """Show the cards of models as pages."""
    if page.startswith("models/"):
        source[0] = _card(page.removeprefix("models/"))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
