"""The examples of public functions and methods run, and each of these says what it takes, returns and raises."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

import nybble
from nybble.engine import Engine

FUNCTIONS = ["available_isas", "load", "read_graph", "write_graph"]
METHODS = ["__call__", "classes", "classify", "predict", "preprocess", "run"]


def test_every_public_function_is_here() -> None:
    assert [name for name in nybble.__all__ if inspect.isfunction(getattr(nybble, name))] == FUNCTIONS


def run_examples(item: Any, name: str) -> None:
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(item, name) if test.examples]
    assert tests, f"{name} has no example"
    for test in tests:
        runner = doctest.DocTestRunner()
        written: list[str] = []
        runner.run(test, out=written.append)
        assert not runner.failures, "".join(written)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    run_examples(getattr(nybble, name), name)


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    run_examples(inspect.getattr_static(Engine, name), name)


def test_the_package() -> None:
    run_examples(nybble, "nybble")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch: pip install 'nybble[quantize]'")
def test_quantize() -> None:
    run_examples(import_module("nybble.quantize.one_call").quantize, "quantize")


@pytest.mark.parametrize("name", ["load", "read_graph", "write_graph"])
def test_functions_say_what_they_take_and_raise(name: str) -> None:
    text = inspect.getdoc(getattr(nybble, name)) or ""
    for parameter in inspect.signature(getattr(nybble, name)).parameters:
        assert parameter in text
    assert "Parameters\n" in text and "Raises\n" in text and "Examples\n" in text


@pytest.mark.parametrize("name", ["classify", "preprocess", "run", "__call__"])
def test_methods_say_what_they_take_and_raise(name: str) -> None:
    text = inspect.getdoc(getattr(Engine, name)) or ""
    for heading in ("Parameters\n", "Returns\n", "Raises\n", "Examples\n"):
        assert heading in text
