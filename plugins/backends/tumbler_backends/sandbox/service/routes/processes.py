"""Routes of spawned processes: they outlive the request that starts them."""

import uuid
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from tumbler.contracts.sandbox_process import Process, Stream, TerminalSize
from tumbler_backends.sandbox.service.desk import Box, Caller
from tumbler_backends.sandbox.service.failures import PROBLEMS
from tumbler_backends.sandbox.service.streaming import OCTETS
from tumbler_backends.sandbox.wire.answers import ExitAnswer, ProcessAnswer
from tumbler_backends.sandbox.wire.requests import Identity, SignalBody, SizeBody, SpawnBody

__all__ = ["END_HEADER", "LONGEST_POLL_S", "OFFSET_HEADER", "router"]

router = APIRouter(tags=["processes"], responses=PROBLEMS)

OFFSET_HEADER: Final = "Tumbler-Offset"
END_HEADER: Final = "Tumbler-End"
LONGEST_POLL_S: Final = 30.0

_Wait: TypeAlias = Annotated[float, Query(ge=0, le=LONGEST_POLL_S, description="Seconds to wait at most.")]
_Offset: TypeAlias = Annotated[int, Query(ge=0, le=1 << 60, description="The first byte that is wanted.")]
_BYTES: Final[dict[int | str, dict[str, object]]] = {
    200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}, "description": "The bytes."}
}


async def _process(exec_id: Annotated[Identity, Path()], box: Box) -> Process:
    return await box.sandbox.process(exec_id)


_Process: TypeAlias = Annotated[Process, Depends(_process)]


@router.post("/sandboxes/{sandbox}/processes", status_code=201)
async def spawn(body: SpawnBody, box: Box, caller: Caller) -> ProcessAnswer:
    """Start a process and return at once. The same `exec_id` twice starts one process."""
    caller.desk.holdings.metrics.commands.labels(kind="spawn").inc()
    process = await box.sandbox.spawn(
        body.command,
        exec_id=body.exec_id or uuid.uuid4().hex,
        stdin=body.stdin,
        pty=None if body.pty is None else TerminalSize(columns=body.pty.columns, rows=body.pty.rows),
        cwd=body.cwd,
        env=body.env,
        timeout=body.timeout,
        max_output=min(body.max_output, caller.desk.settings.output_bytes),
        tag=body.tag,
    )
    command = (body.command,) if isinstance(body.command, str) else body.command
    return ProcessAnswer(exec_id=process.exec_id, command=command, pid=process.pid, tag=body.tag)


@router.get("/sandboxes/{sandbox}/processes")
async def processes(box: Box) -> list[ProcessAnswer]:
    """List the spawned processes, oldest first."""
    return [ProcessAnswer.model_validate(info) for info in await box.sandbox.processes()]


@router.get("/sandboxes/{sandbox}/processes/{exec_id}")
async def look(process: _Process, box: Box) -> ProcessAnswer:
    """Describe one process, running or ended."""
    known = [info for info in await box.sandbox.processes() if info.exec_id == process.exec_id]
    if not known:
        raise ProcessLookupError(f"there is no process {process.exec_id!r}")
    return ProcessAnswer.model_validate(known[-1])


@router.get("/sandboxes/{sandbox}/processes/{exec_id}/output", response_class=Response, responses=_BYTES)
async def output(
    process: _Process,
    stream: Stream = "stdout",
    offset: _Offset = 0,
    limit: Annotated[int, Query(ge=1, le=1 << 22)] = 1 << 16,
    timeout: _Wait = 10.0,
) -> Response:
    """Return what the stream holds from a byte on; wait for the first one.

    The header `Tumbler-Offset` says where the bytes begin, and `Tumbler-End` is 1 when nothing follows them.
    """
    piece = await process.read(stream, offset=offset, limit=limit, timeout=timeout)
    headers = {OFFSET_HEADER: str(piece.offset), END_HEADER: str(int(piece.end))}
    return Response(piece.data, media_type=OCTETS, headers=headers)


@router.get("/sandboxes/{sandbox}/processes/{exec_id}/stream", response_class=StreamingResponse, responses=_BYTES)
async def follow(process: _Process, stream: Stream = "stdout", offset: _Offset = 0) -> StreamingResponse:
    """Send the stream from a byte on until it ends."""
    return StreamingResponse(process.follow(stream, offset=offset), media_type=OCTETS)


@router.post("/sandboxes/{sandbox}/processes/{exec_id}/stdin", status_code=204, response_class=Response)
async def write_stdin(process: _Process, request: Request) -> None:
    """Send the body to the process's standard input."""
    await process.write_stdin(await request.body())


@router.delete("/sandboxes/{sandbox}/processes/{exec_id}/stdin", status_code=204, response_class=Response)
async def close_stdin(process: _Process) -> None:
    """End the process's standard input."""
    await process.close_stdin()


@router.post("/sandboxes/{sandbox}/processes/{exec_id}/signal", status_code=204, response_class=Response)
async def signal(body: SignalBody, process: _Process) -> None:
    """Send a signal to the process and its children."""
    await process.signal(body.number)


@router.put("/sandboxes/{sandbox}/processes/{exec_id}/size", status_code=204, response_class=Response)
async def resize(body: SizeBody, process: _Process) -> None:
    """Set the size of the process's terminal."""
    await process.resize(TerminalSize(columns=body.columns, rows=body.rows))


@router.get("/sandboxes/{sandbox}/processes/{exec_id}/exit")
async def wait(process: _Process, timeout: _Wait = 0.0) -> ExitAnswer | None:
    """Wait for the end; null while the process runs."""
    try:
        ended = await process.wait(timeout) if timeout else await process.poll()
    except TimeoutError:
        return None
    return None if ended is None else ExitAnswer.model_validate(ended)


@router.delete("/sandboxes/{sandbox}/processes/{exec_id}")
async def kill(process: _Process) -> ExitAnswer:
    """End the process and all its children: SIGTERM, a grace, SIGKILL."""
    return ExitAnswer.model_validate(await process.kill())
