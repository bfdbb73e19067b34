"""Routes of shell sessions."""

import re
import uuid
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Depends, Path, Request, Response

from tumbler.contracts.sandbox_process import InteractiveSession
from tumbler.errors import CapabilityError, SessionEnded
from tumbler_backends.sandbox.service.desk import Box, Caller
from tumbler_backends.sandbox.service.failures import PROBLEMS
from tumbler_backends.sandbox.service.holdings import HeldSession
from tumbler_backends.sandbox.wire.answers import ExecAnswer
from tumbler_backends.sandbox.wire.fields import Answer, WireBytes
from tumbler_backends.sandbox.wire.requests import ExpectBody, Identity, RunBody, SessionBody

__all__ = ["router"]

router = APIRouter(tags=["sessions"], responses=PROBLEMS)


class SessionAnswer(Answer):
    """An open session."""

    session_id: str


class MatchAnswer(Answer):
    """What a started command has said."""

    output: WireBytes


async def _held(session: Annotated[Identity, Path()], box: Box) -> HeldSession:
    found = box.sessions.get(session)
    if found is None:
        raise SessionEnded(f"there is no session {session!r}: it was closed, or the service was restarted")
    return found


async def _interactive(held: Annotated[HeldSession, Depends(_held)]) -> InteractiveSession:
    if not isinstance(held.session, InteractiveSession):
        raise CapabilityError("this backend's sessions are not interactive")
    return held.session


_Session: TypeAlias = Annotated[HeldSession, Depends(_held)]
_Interactive: TypeAlias = Annotated[InteractiveSession, Depends(_interactive)]


@router.post("/sandboxes/{sandbox}/sessions", status_code=201)
async def open_session(body: SessionBody, box: Box) -> SessionAnswer:
    """Open a shell that keeps its working directory and variables between commands."""
    identity = body.session_id or uuid.uuid4().hex
    async with box.opening:
        if identity not in box.sessions:
            box.sessions[identity] = HeldSession(await box.sandbox.session())
    return SessionAnswer(session_id=identity)


@router.delete("/sandboxes/{sandbox}/sessions/{session}", status_code=204, response_class=Response)
async def close(session: Annotated[Identity, Path()], box: Box) -> None:
    """End the shell and all that it started."""
    held = box.sessions.pop(session, None)
    if held is not None:
        await held.session.close()


@router.post("/sandboxes/{sandbox}/sessions/{session}/run")
async def run(body: RunBody, held: _Session, caller: Caller) -> ExecAnswer:
    """Run one shell command, first come first served, and wait for it."""
    caller.desk.holdings.metrics.commands.labels(kind="session").inc()
    limit = min(body.max_output, caller.desk.settings.output_bytes)
    result = await held.runs.run(
        body.exec_id, lambda: held.session.run(body.command, timeout=body.timeout, max_output=limit)
    )
    return ExecAnswer.model_validate(result)


@router.delete("/sandboxes/{sandbox}/sessions/{session}/run/{exec_id}", status_code=204, response_class=Response)
async def cancel(exec_id: Annotated[Identity, Path()], held: _Session) -> None:
    """Kill a command that is being waited for; one that has not come yet will be refused."""
    await held.runs.cancel(exec_id)


@router.post("/sandboxes/{sandbox}/sessions/{session}/start", status_code=204, response_class=Response)
async def start(body: RunBody, session: _Interactive, caller: Caller) -> None:
    """Start a command whose standard input stays open."""
    caller.desk.holdings.metrics.commands.labels(kind="session").inc()
    limit = min(body.max_output, caller.desk.settings.output_bytes)
    await session.start(body.command, timeout=body.timeout, max_output=limit)


@router.post("/sandboxes/{sandbox}/sessions/{session}/send", status_code=204, response_class=Response)
async def send(session: _Interactive, request: Request) -> None:
    """Send the body to the started command's standard input."""
    await session.send(await request.body())


@router.post("/sandboxes/{sandbox}/sessions/{session}/expect")
async def expect(body: ExpectBody, session: _Interactive) -> MatchAnswer:
    """Wait until a regular expression occurs in the started command's output."""
    try:
        re.compile(body.pattern)
    except re.error as error:
        raise ValueError(f"{body.pattern!r} is no regular expression: {error}") from error
    return MatchAnswer(output=await session.expect(body.pattern, timeout=body.timeout))


@router.post("/sandboxes/{sandbox}/sessions/{session}/interrupt", status_code=204, response_class=Response)
async def interrupt(session: _Interactive) -> None:
    """Send SIGINT to the running command."""
    await session.interrupt()


@router.post("/sandboxes/{sandbox}/sessions/{session}/finish")
async def finish(session: _Interactive) -> ExecAnswer:
    """End the started command's standard input and wait for its result."""
    return ExecAnswer.model_validate(await session.finish())
