"""Networks from the user's own code, whose errors are reported with their file and line."""

from __future__ import annotations

import importlib
import inspect
import os
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from torch import nn

from nybble.quantize.errors import SourceError

_HERE = f"{Path(__file__).parents[1]}{os.sep}"
#: Code that is not the user's: the standard library, and folders of installed packages.
_LIBRARY = f"{sysconfig.get_path('stdlib')}{os.sep}"
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def make(package: str, factory: str) -> nn.Module:
    """Import a module and call its ``factory``, or take that as it is where it is an ``nn.Module``.

    Raises
    ------
    SourceError
        Saying what is missing, or naming the line of the user's code that raised.
    """
    source = f"{package}:{factory}"
    found: Any = _imported(package, source)
    for part in factory.split("."):
        if not hasattr(found, part):
            raise SourceError(f"{source}: {package} has no {factory}")
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise SourceError(f"{source}: is neither a function nor a module, but {type(found).__name__}")
    _check_arguments(found, source)
    try:
        module = found()
    except (Exception, SystemExit) as error:
        raise SourceError(f"{source}: raised {_told(error)}") from error
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"{source}: returned {type(module).__name__}, not a torch.nn.Module; return the network alone"
        )
    return module


def _imported(package: str, source: str) -> Any:
    if not all(part.isidentifier() for part in package.split(".")):
        raise SourceError(f"{source}: {package!r} is not the name of a Python module, such as package.module")
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        # A module that this one imports is missing, not this one or a package of it.
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise SourceError(f"{source}: {package} cannot be imported: {_told(error)}") from error
        hint = "; leave out `.py`" if package.endswith(".py") else "; is its folder in PYTHONPATH?"
        raise SourceError(f"{source}: {package} cannot be imported: {error}{hint}") from error
    except (Exception, SystemExit) as error:
        raise SourceError(f"{source}: {package} cannot be imported: {_told(error)}") from error


def _check_arguments(found: Any, source: str) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # Some functions written in C have none.
        return
    try:
        signature.bind()
    except TypeError as error:
        raise SourceError(f"{source}: cannot be called without arguments: {error}") from None


def _told(error: BaseException) -> str:
    """An error of the user's code in one line, preceded by the innermost line of that code."""
    text = " ".join(str(error).split())[:200]
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if _is_the_users(frame.filename)] or frames[-1:]
    return f"{own[-1].filename}:{own[-1].lineno}: {told}" if own else told


def _is_the_users(file: str) -> bool:
    return not file.startswith((_HERE, _LIBRARY)) and not any(folder in file for folder in _INSTALLED)
