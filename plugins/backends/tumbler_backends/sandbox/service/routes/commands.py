"""Routes of commands that are waited for."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tumbler_backends.sandbox.service.desk import Box, Caller
from tumbler_backends.sandbox.service.failures import PROBLEMS
from tumbler_backends.sandbox.wire.answers import ExecAnswer
from tumbler_backends.sandbox.wire.requests import ExecBody, Identity

__all__ = ["router"]

router = APIRouter(tags=["commands"], responses=PROBLEMS)


@router.post("/sandboxes/{sandbox}/exec")
async def run(body: ExecBody, box: Box, caller: Caller) -> ExecAnswer:
    """Run one command and wait for it.

    It goes on when the connection breaks, until its time is over; the same `exec_id` then gets its result.
    """
    caller.desk.holdings.metrics.commands.labels(kind="exec").inc()
    result = await box.runs.run(
        body.exec_id,
        lambda: box.sandbox.exec(
            body.command,
            input=body.input,
            cwd=body.cwd,
            env=body.env,
            timeout=body.timeout,
            max_output=min(body.max_output, caller.desk.settings.output_bytes),
        ),
    )
    return ExecAnswer.model_validate(result)


@router.delete("/sandboxes/{sandbox}/exec/{exec_id}", status_code=204, response_class=Response)
async def cancel(exec_id: Annotated[Identity, Path()], box: Box) -> None:
    """Kill a command that is being waited for; one that has not come yet will be refused."""
    await box.runs.cancel(exec_id)
