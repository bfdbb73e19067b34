"""Modal's control plane: apps, images, and the lives of sandboxes."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpclib
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status as GrpcStatus
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

from modal_server.fleet import Fleet
from modal_server.machine import Machine, Status
from modal_server.unimplemented import complete

if TYPE_CHECKING:
    from grpclib.server import Stream

_HOUR_S = 3600
_PAGE = 50
_BUILDER = "2025.06"


def token() -> str:
    """Return a JWT of which the client reads nothing but the expiry."""
    parts = ({"alg": "none"}, {"exp": int(time.time()) + _HOUR_S})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*encoded, "c2lnbmF0dXJl"))


def environment(sources: "list[api_pb2.SecretSource]") -> dict[str, str]:
    """Return the variables of inlined secrets."""
    return {name: value for source in sources for name, value in source.env.contents.items()}


class ControlPlane(complete(ModalClientBase)):
    """What the client's calls about sandboxes need, and nothing else."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def ClientHello(self, stream: "Stream[Empty, api_pb2.ClientHelloResponse]") -> None:
        _authenticate(stream.metadata)
        await stream.recv_message()
        await stream.send_message(api_pb2.ClientHelloResponse())

    async def AuthTokenGet(self, stream: "Stream[api_pb2.AuthTokenGetRequest, api_pb2.AuthTokenGetResponse]") -> None:
        _authenticate(stream.metadata)
        await stream.recv_message()
        await stream.send_message(api_pb2.AuthTokenGetResponse(token=token()))

    async def AppGetOrCreate(
        self, stream: "Stream[api_pb2.AppGetOrCreateRequest, api_pb2.AppGetOrCreateResponse]"
    ) -> None:
        _authenticate(stream.metadata)
        request = await stream.recv_message()
        assert request is not None
        app_id = self._fleet.apps.setdefault(request.app_name, f"ap-{len(self._fleet.apps) + 1:022d}")
        await stream.send_message(api_pb2.AppGetOrCreateResponse(app_id=app_id))

    async def EnvironmentGetOrCreate(
        self, stream: "Stream[api_pb2.EnvironmentGetOrCreateRequest, api_pb2.EnvironmentGetOrCreateResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        settings = api_pb2.EnvironmentSettings(image_builder_version=_BUILDER)
        metadata = api_pb2.EnvironmentMetadata(name=request.deployment_name or "main", settings=settings)
        await stream.send_message(api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata))

    async def ImageGetOrCreate(
        self, stream: "Stream[api_pb2.ImageGetOrCreateRequest, api_pb2.ImageGetOrCreateResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        # Whatever image is asked for, this machine's root file system is what there is.
        await stream.send_message(
            api_pb2.ImageGetOrCreateResponse(
                image_id=self._fleet.add_image(None),
                result=api_pb2.GenericResult(status=Status.GENERIC_STATUS_SUCCESS),
                metadata=api_pb2.ImageMetadata(image_builder_version=request.builder_version),
            )
        )

    async def ImageFromId(self, stream: "Stream[api_pb2.ImageFromIdRequest, api_pb2.ImageFromIdResponse]") -> None:
        request = await stream.recv_message()
        assert request is not None
        if request.image_id not in self._fleet.images:
            raise grpclib.GRPCError(GrpcStatus.NOT_FOUND, f"Image {request.image_id} not found")
        await stream.send_message(api_pb2.ImageFromIdResponse(image_id=request.image_id))

    async def ImageDelete(self, stream: "Stream[api_pb2.ImageDeleteRequest, Empty]") -> None:
        request = await stream.recv_message()
        assert request is not None
        await self._fleet.delete_image(request.image_id)
        await stream.send_message(Empty())

    async def SandboxCreateV2(
        self, stream: "Stream[api_pb2.SandboxCreateV2Request, api_pb2.SandboxCreateV2Response]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        machine = await self._fleet.create(
            request.app_id, request.definition, environment(list(request.secret_sources)), tags
        )
        await stream.send_message(
            api_pb2.SandboxCreateV2Response(
                sandbox_id=machine.sandbox_id,
                task_id=machine.task_id,
                metadata=_metadata(machine),
                command_router_access=api_pb2.CommandRouterAccess(jwt=token(), url=self._fleet.url),
            )
        )

    async def SandboxWaitV2(self, stream: "Stream[api_pb2.SandboxWaitRequest, api_pb2.SandboxWaitResponse]") -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.sandbox(request.sandbox_id)
        if request.timeout > 0 and machine.result is None:
            await asyncio.wait([asyncio.ensure_future(machine.finished.wait())], timeout=request.timeout)
        await stream.send_message(api_pb2.SandboxWaitResponse(result=machine.result, metadata=_metadata(machine)))

    async def SandboxTerminateV2(
        self, stream: "Stream[api_pb2.SandboxTerminateRequest, api_pb2.SandboxTerminateResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.sandbox(request.sandbox_id)
        existing = machine.result
        await machine.end(Status.GENERIC_STATUS_TERMINATED, 137)
        await stream.send_message(api_pb2.SandboxTerminateResponse(existing_result=existing))

    async def SandboxGetTaskIdV2(
        self, stream: "Stream[api_pb2.SandboxGetTaskIdRequest, api_pb2.SandboxGetTaskIdResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.sandbox(request.sandbox_id)
        answer = (
            api_pb2.SandboxGetTaskIdResponse(task_id=machine.task_id)
            if machine.result is None
            else api_pb2.SandboxGetTaskIdResponse(task_result=machine.result)
        )
        await stream.send_message(answer)

    async def SandboxGetCommandRouterAccess(
        self,
        stream: "Stream[api_pb2.SandboxGetCommandRouterAccessRequest, api_pb2.SandboxGetCommandRouterAccessResponse]",
    ) -> None:
        await stream.recv_message()
        await stream.send_message(api_pb2.SandboxGetCommandRouterAccessResponse(jwt=token(), url=self._fleet.url))

    async def SandboxListV2(self, stream: "Stream[api_pb2.SandboxListRequest, api_pb2.SandboxListResponse]") -> None:
        request = await stream.recv_message()
        assert request is not None
        wanted = {tag.tag_name: tag.tag_value for tag in request.tags}.items()
        found = [
            one
            for one in self._fleet.living()
            if request.app_id in {"", one.app_id}
            and (not request.before_timestamp or one.created < request.before_timestamp)
            and wanted <= one.tags.items()
        ]
        await stream.send_message(api_pb2.SandboxListResponse(sandboxes=[_info(one) for one in found[:_PAGE]]))

    async def SandboxTagsSetV2(self, stream: "Stream[api_pb2.SandboxTagsSetRequest, Empty]") -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.sandbox(request.sandbox_id)
        machine.tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        await stream.send_message(Empty())

    async def SandboxTagsGetV2(
        self, stream: "Stream[api_pb2.SandboxTagsGetRequest, api_pb2.SandboxTagsGetResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        await stream.send_message(api_pb2.SandboxTagsGetResponse(tags=_tags(self._fleet.sandbox(request.sandbox_id))))

    async def SandboxGetFromNameV2(
        self, stream: "Stream[api_pb2.SandboxGetFromNameRequest, api_pb2.SandboxGetFromNameResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.named(self._fleet.apps.get(request.app_name, ""), request.sandbox_name)
        if machine is None:
            raise grpclib.GRPCError(GrpcStatus.NOT_FOUND, f"Sandbox named {request.sandbox_name} not found")
        await stream.send_message(
            api_pb2.SandboxGetFromNameResponse(sandbox_id=machine.sandbox_id, metadata=_metadata(machine))
        )

    async def SandboxGetFromName(
        self, stream: "Stream[api_pb2.SandboxGetFromNameRequest, api_pb2.SandboxGetFromNameResponse]"
    ) -> None:
        # The client asks for sandboxes of the first version where it finds none of the second: there are none.
        request = await stream.recv_message()
        assert request is not None
        raise grpclib.GRPCError(GrpcStatus.NOT_FOUND, f"Sandbox named {request.sandbox_name} not found")

    async def SandboxGetTunnelsV2(
        self, stream: "Stream[api_pb2.SandboxGetTunnelsRequest, api_pb2.SandboxGetTunnelsResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.sandbox(request.sandbox_id)
        tunnels = [await machine.tunnel(port.port) for port in machine.definition.open_ports.ports]
        await stream.send_message(api_pb2.SandboxGetTunnelsResponse(tunnels=tunnels))


def _metadata(machine: Machine) -> api_pb2.SandboxHandleMetadata:
    return api_pb2.SandboxHandleMetadata(app_id=machine.app_id)


def _tags(machine: Machine) -> list[api_pb2.SandboxTag]:
    return [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in machine.tags.items()]


def _info(machine: Machine) -> api_pb2.SandboxInfo:
    return api_pb2.SandboxInfo(
        id=machine.sandbox_id,
        created_at=machine.created,
        app_id=machine.app_id,
        tags=_tags(machine),
        name=machine.definition.name,
        image_id=machine.definition.image_id,
        metadata=_metadata(machine),
    )


def _authenticate(metadata: "Mapping[str, str | bytes] | None") -> None:
    if (metadata or {}).get("x-modal-token-secret") != "as-test":
        raise grpclib.GRPCError(GrpcStatus.UNAUTHENTICATED, "Token ID or secret is wrong")
