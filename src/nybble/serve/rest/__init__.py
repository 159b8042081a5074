"""The Open Inference Protocol over REST, Triton's extensions of it, and ``/v1/classify``."""

from nybble.serve.rest.app import make_app

__all__ = ["make_app"]
