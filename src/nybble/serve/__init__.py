"""A server: the Open Inference Protocol over REST and gRPC, ``/v1/classify``, and a page."""

from nybble.serve.errors import ServeError
from nybble.serve.server import Address, run
from nybble.serve.settings import NAME, ModelSettings, Settings, read_settings

__all__ = ["NAME", "Address", "ModelSettings", "ServeError", "Settings", "read_settings", "run"]
