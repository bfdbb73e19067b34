"""Modal's task command router: processes, their streams, and the main process's."""

import asyncio
from typing import TYPE_CHECKING

import grpclib
from grpclib.const import Status as GrpcStatus
from modal_proto import task_command_router_pb2 as pb
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from modal_server.control import environment
from modal_server.execs import Exec, Gone
from modal_server.fleet import Fleet
from modal_server.machine import Machine, policy_of
from modal_server.unimplemented import complete

if TYPE_CHECKING:
    from grpclib.server import Stream


class CommandRouter(complete(TaskCommandRouterBase)):
    """Runs processes in sandboxes."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def TaskExecStart(self, stream: "Stream[pb.TaskExecStartRequest, pb.TaskExecStartResponse]") -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.task(request.task_id)
        timeout = request.timeout_secs if request.HasField("timeout_secs") else None
        env = {**environment(list(request.secret_sources)), **dict(request.env)}
        try:
            await machine.exec(request.exec_id, list(request.command_args), request.workdir, env, timeout)
        except (OSError, TimeoutError) as error:
            raise grpclib.GRPCError(GrpcStatus.FAILED_PRECONDITION, f"the process did not start: {error}") from error
        await stream.send_message(pb.TaskExecStartResponse())

    async def TaskExecStdioRead(
        self, stream: "Stream[pb.TaskExecStdioReadRequest, pb.TaskExecStdioReadResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        one = self._exec(request.task_id, request.exec_id)
        stdout = request.file_descriptor == pb.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT
        async for piece in (one.stdout if stdout else one.stderr).read(request.offset):
            await stream.send_message(pb.TaskExecStdioReadResponse(data=piece))

    async def TaskExecStdinWrite(
        self, stream: "Stream[pb.TaskExecStdinWriteRequest, pb.TaskExecStdinWriteResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.task(request.task_id)
        await _write(machine, self._exec(request.task_id, request.exec_id), request.offset, request.data, request.eof)
        await stream.send_message(pb.TaskExecStdinWriteResponse())

    async def TaskExecStdinWriteStream(
        self, stream: "Stream[pb.TaskExecStdinWriteStreamRequest, pb.TaskExecStdinWriteStreamResponse]"
    ) -> None:
        first = await stream.recv_message()
        assert first is not None
        machine = self._fleet.task(first.start.task_id)
        one, offset = self._exec(first.start.task_id, first.start.exec_id), first.start.offset
        async for request in stream:
            await _write(machine, one, offset, request.data, request.HasField("end"))
            offset += len(request.data)
        await stream.send_message(pb.TaskExecStdinWriteStreamResponse())

    async def TaskExecStdinStatus(
        self, stream: "Stream[pb.TaskExecStdinStatusRequest, pb.TaskExecStdinStatusResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        one = self._exec(request.task_id, request.exec_id)
        await stream.send_message(
            pb.TaskExecStdinStatusResponse(num_bytes_written=one.written, closed=one.stdin_closed)
        )

    async def TaskExecPoll(self, stream: "Stream[pb.TaskExecPollRequest, pb.TaskExecPollResponse]") -> None:
        request = await stream.recv_message()
        assert request is not None
        one = self._exec(request.task_id, request.exec_id)
        code = one.code.result() if one.code.done() else None
        await stream.send_message(pb.TaskExecPollResponse(**_status(code)))

    async def TaskExecWait(self, stream: "Stream[pb.TaskExecWaitRequest, pb.TaskExecWaitResponse]") -> None:
        request = await stream.recv_message()
        assert request is not None
        one = self._exec(request.task_id, request.exec_id)
        try:
            code = await asyncio.shield(one.code)
        except Gone:
            raise grpclib.GRPCError(GrpcStatus.NOT_FOUND, f"Task {request.task_id} not found") from None
        await stream.send_message(pb.TaskExecWaitResponse(**_status(code)))

    async def SandboxStdioReadV2(
        self, stream: "Stream[pb.SandboxStdioReadV2Request, pb.SandboxStdioReadV2Response]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        main = self._main(request.task_id)
        stdout = request.file_descriptor == pb.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT
        offset = request.offset
        async for piece in (main.stdout if stdout else main.stderr).read(offset):
            await stream.send_message(pb.SandboxStdioReadV2Response(data=piece, starting_offset=offset))
            offset += len(piece)

    async def SandboxStdinWriteV2(
        self, stream: "Stream[pb.SandboxStdinWriteV2Request, pb.SandboxStdinWriteV2Response]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.task(request.task_id)
        await _write(machine, self._main(request.task_id), request.offset, request.data, request.eof)
        await stream.send_message(pb.SandboxStdinWriteV2Response())

    async def TaskSetNetworkAccess(
        self, stream: "Stream[pb.TaskSetNetworkAccessRequest, pb.TaskSetNetworkAccessResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        machine = self._fleet.task(request.task_id)
        assert machine.box is not None
        await machine.box.set_network(policy_of(request.network_access))
        await stream.send_message(pb.TaskSetNetworkAccessResponse())

    async def TaskSnapshotFilesystem(
        self, stream: "Stream[pb.TaskSnapshotFilesystemRequest, pb.TaskSnapshotFilesystemResponse]"
    ) -> None:
        request = await stream.recv_message()
        assert request is not None
        image_id = await self._fleet.snapshot(self._fleet.task(request.task_id))
        await stream.send_message(pb.TaskSnapshotFilesystemResponse(image_id=image_id))

    def _exec(self, task_id: str, exec_id: str) -> Exec:
        machine = self._fleet.task(task_id)
        if exec_id not in machine.execs:
            raise grpclib.GRPCError(GrpcStatus.NOT_FOUND, f"Exec {exec_id} not found")
        return machine.execs[exec_id]

    def _main(self, task_id: str) -> Exec:
        main = self._fleet.task(task_id).main
        if main is None:
            raise grpclib.GRPCError(GrpcStatus.NOT_FOUND, f"Task {task_id} not found")
        return main


async def _write(machine: Machine, one: Exec, offset: int, data: bytes, eof: bool) -> None:
    machine.touch()
    try:
        await one.write(offset, data, eof=eof)
    except BrokenPipeError as error:
        raise grpclib.GRPCError(GrpcStatus.FAILED_PRECONDITION, str(error)) from error


def _status(code: int | None) -> dict[str, int]:
    if code is None:
        return {}
    return {"code": code} if code >= 0 else {"signal": -code}
