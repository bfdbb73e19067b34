"""Routes of sandboxes: life, network, copies."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from tumbler import __version__
from tumbler_backends.sandbox.service.desk import Box, Call, Caller
from tumbler_backends.sandbox.service.failures import PROBLEMS
from tumbler_backends.sandbox.service.holdings import Held
from tumbler_backends.sandbox.service.policy import public_info, public_spec
from tumbler_backends.sandbox.wire.answers import (
    CapabilitiesAnswer,
    EgressAnswer,
    InfoAnswer,
    ServerAnswer,
    TemplateAnswer,
    UsageAnswer,
)
from tumbler_backends.sandbox.wire.fields import Answer
from tumbler_backends.sandbox.wire.requests import CountBody, LifetimeBody
from tumbler_backends.sandbox.wire.spec import NetworkBody, SpecBody

__all__ = ["router"]

router = APIRouter(tags=["sandboxes"], responses=PROBLEMS)

_Label = Annotated[str, Field(pattern=r"^[^=]+=")]


class AddressAnswer(Answer):
    """Where a port of the sandbox is reached."""

    url: str


class ReconciledAnswer(Answer):
    """What was cleared away."""

    removed: int
    """Sandboxes."""


class AliveAnswer(Answer):
    """Whether the sandbox really executes a command."""

    alive: bool


@router.get("/server")
async def describe(caller: Caller) -> ServerAnswer:
    """Tell what the server can do."""
    desk = caller.desk
    return ServerAnswer(
        version=__version__,
        instance=desk.instance,
        capabilities=CapabilitiesAnswer.model_validate(desk.capabilities),
    )


@router.post("/reconcile")
async def reconcile(caller: Caller) -> ReconciledAnswer:
    """Remove what is past its time and what dead owners left."""
    return ReconciledAnswer(removed=await caller.desk.holdings.reconcile())


@router.post("/sandboxes", status_code=201)
async def create(body: SpecBody, caller: Caller) -> InfoAnswer:
    """Create a sandbox that is ready for its first command."""
    held = await caller.desk.holdings.create(body.spec(), caller.tenant)
    return await _info(held, caller)


@router.get("/sandboxes")
async def listing(
    caller: Caller, label: Annotated[list[_Label] | None, Query(description="`key=value`, any number.")] = None
) -> list[InfoAnswer]:
    """List the living sandboxes that have all these labels, oldest first."""
    labels = dict(each.split("=", 1) for each in label or ())
    return [InfoAnswer.model_validate(info) for info in await caller.desk.holdings.list(caller.tenant, labels)]


@router.get("/sandboxes/{sandbox}")
async def look(box: Box, caller: Caller) -> InfoAnswer:
    """Describe one sandbox."""
    return await _info(box, caller)


@router.get("/sandboxes/{sandbox}/spec")
async def spec(box: Box, caller: Caller) -> SpecBody:
    """Return what a sandbox was made from."""
    return SpecBody.model_validate(public_spec(box.sandbox.spec, caller.tenant))


@router.delete("/sandboxes/{sandbox}", status_code=204, response_class=Response)
async def delete(box: Box, caller: Caller) -> None:
    """Kill all processes and remove every trace."""
    await caller.desk.holdings.delete(box)


@router.get("/sandboxes/{sandbox}/alive")
async def alive(box: Box) -> AliveAnswer:
    """Tell whether the sandbox really executes a command now."""
    return AliveAnswer(alive=await box.sandbox.alive())


@router.post("/sandboxes/{sandbox}/extend")
async def extend(body: LifetimeBody, box: Box, caller: Caller) -> InfoAnswer:
    """Let the sandbox live that many seconds from now on."""
    caller.tenant.require_ttl(body.ttl)
    await box.sandbox.extend(body.ttl)
    return await _info(box, caller)


@router.post("/sandboxes/{sandbox}/heartbeat", status_code=204, response_class=Response)
async def heartbeat(box: Box) -> None:
    """Count as a use, for `idle_ttl`."""
    await box.sandbox.heartbeat()


@router.post("/sandboxes/{sandbox}/pause", status_code=204, response_class=Response)
async def pause(box: Box) -> None:
    """Freeze all processes."""
    await box.sandbox.pause()


@router.post("/sandboxes/{sandbox}/resume", status_code=204, response_class=Response)
async def resume(box: Box) -> None:
    """Undo a pause."""
    await box.sandbox.resume()


@router.put("/sandboxes/{sandbox}/network", status_code=204, response_class=Response)
async def set_network(body: NetworkBody, box: Box) -> None:
    """Replace the network policy at once; connections that it forbids are cut."""
    await box.sandbox.set_network(body.policy())


@router.get("/sandboxes/{sandbox}/egress")
async def egress(box: Box) -> list[EgressAnswer]:
    """Return what was tried to be reached, oldest first."""
    return [EgressAnswer.model_validate(record) for record in await box.sandbox.egress()]


@router.get("/sandboxes/{sandbox}/usage")
async def usage(box: Box) -> UsageAnswer:
    """Measure what the sandbox uses."""
    return UsageAnswer.model_validate(await box.sandbox.usage())


@router.post("/sandboxes/{sandbox}/ports/{port}")
async def expose(port: Annotated[int, Path(ge=1, le=65535)], box: Box) -> AddressAnswer:
    """Return a URL at which the server's machine reaches a port that is listened on inside."""
    return AddressAnswer(url=await box.sandbox.expose(port))


@router.post("/sandboxes/{sandbox}/snapshot", status_code=201)
async def snapshot(box: Box, caller: Caller) -> TemplateAnswer:
    """Copy the sandbox's files into a template."""
    return TemplateAnswer.model_validate(await caller.desk.holdings.snapshot(box))


@router.post("/sandboxes/{sandbox}/fork", status_code=201)
async def fork(body: CountBody, box: Box, caller: Caller) -> list[InfoAnswer]:
    """Create sandboxes of the same spec with the same files."""
    copies = await caller.desk.holdings.fork(box, body.count, caller.tenant)
    return [await _info(copy, caller) for copy in copies]


@router.get("/templates")
async def templates(caller: Caller) -> list[TemplateAnswer]:
    """List the templates, oldest first."""
    return [TemplateAnswer.model_validate(each) for each in await caller.desk.holdings.templates(caller.tenant)]


@router.delete("/templates/{template}", status_code=204, response_class=Response)
async def delete_template(template: str, caller: Caller) -> None:
    """Remove a template; sandboxes made from it live on."""
    await caller.desk.holdings.delete_template(template, caller.tenant)


async def _info(held: Held, caller: Call) -> InfoAnswer:
    return InfoAnswer.model_validate(public_info(await held.sandbox.info(), caller.tenant))
