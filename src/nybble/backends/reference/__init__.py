"""The interpreter as a backend: it runs everywhere, without the compiled part, and defines the correct results."""

from nybble.backends.reference.interpreter import Interpreter, ReferenceBackend

__all__ = ["Interpreter", "ReferenceBackend", "backend"]

backend = ReferenceBackend()
