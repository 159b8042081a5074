"""The Open Inference Protocol over gRPC."""

from nybble.serve.rpc.server import start_grpc

__all__ = ["start_grpc"]
