"""The remote procedures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from google.protobuf.json_format import ParseDict

from nybble.serve.description import model_config, model_metadata, public_name, server_metadata
from nybble.serve.errors import NotFoundError, RefusedError
from nybble.serve.rpc import inference_pb2 as messages
from nybble.serve.rpc.convert import to_call, to_response
from nybble.serve.service import Service
from nybble.serve.settings import PHOTOS

Context: TypeAlias = grpc.aio.ServicerContext


class Servicer:
    """The procedures of ``inference.GRPCInferenceService``, each named as there."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ServerLive(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Whether the server runs."""
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Whether requests should be sent here."""
        return messages.ServerReadyResponse(ready=self._service.is_ready)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Name, version, extensions."""
        return messages.ServerMetadataResponse(**server_metadata())

    async def ModelReady(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Whether a model is loaded."""
        try:
            self._service.find(request.name, request.version)
        except NotFoundError:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Inputs and outputs."""
        served, encoded = self._service.find(request.name, request.version)
        versions = [request.version] if request.version else self._service.repository.versions(served.name)
        return messages.ModelMetadataResponse(**model_metadata(served, encoded, versions))

    async def ModelConfig(self, request: Any, context: Context) -> Any:  # noqa: N802
        """The configuration."""
        served, encoded = self._service.find(request.name, request.version)
        return messages.ModelConfigResponse(config=ParseDict(model_config(served, encoded), messages.ModelConfig()))

    async def ModelStatistics(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Counts and times of one model or of all."""
        found = {"model_stats": self._service.statistics(request.name, request.version)}
        return ParseDict(found, messages.ModelStatisticsResponse())

    async def ModelInfer(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Inference."""
        return await self._infer(request, context.time_remaining())

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Inference, a response for each request, in order; refusals are responses too."""
        async for request in requests:
            try:
                response = await self._infer(request, context.time_remaining())
            except RefusedError as error:
                yield messages.ModelStreamInferResponse(
                    error_message=error.message, infer_response=messages.ModelInferResponse(id=request.id)
                )
            else:
                yield messages.ModelStreamInferResponse(infer_response=response)

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Every model and its state."""
        states = self._service.repository.index()
        found = [state._asdict() for state in states if state.state == "READY" or not request.ready]
        return messages.RepositoryIndexResponse(models=found)

    async def RepositoryModelLoad(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Load a model, or load it anew."""
        self._service.check_control()
        await self._service.repository.load(request.model_name.removesuffix(PHOTOS))
        return messages.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Unload a model."""
        self._service.check_control()
        await self._service.repository.unload(request.model_name.removesuffix(PHOTOS))
        return messages.RepositoryModelUnloadResponse()

    async def _infer(self, request: Any, remaining: float | None) -> Any:
        service = self._service
        with (
            service.admitted(request.model_name, request.model_version, "grpc") as ticket,
            service.bodies.held() as held,
        ):
            held.grow_to(request.ByteSize())
            call = to_call(request)
            # Clients without a deadline have one of centuries.
            if remaining is not None and (call.timeout is None or remaining < call.timeout):
                call.timeout = max(remaining, 1e-6)
            answer = await service.infer(ticket, call)
            return to_response(ticket.served, public_name(ticket.served, ticket.encoded), call, answer)
