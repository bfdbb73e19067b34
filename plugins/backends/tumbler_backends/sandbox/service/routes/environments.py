"""Routes of environments: GEM's make, reset, step and close over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field, JsonValue

from tumbler_backends.sandbox.service.desk import Caller
from tumbler_backends.sandbox.service.failures import PROBLEMS
from tumbler_backends.sandbox.wire.fields import Answer, Body, Text

__all__ = ["router"]

router = APIRouter(tags=["environments"], responses=PROBLEMS)


class MakeBody(Body):
    """An environment to make."""

    settings: dict[Text, JsonValue] = Field(default_factory=dict)
    """The environment's settings, as in registry.toml."""
    split: Annotated[str, Field(pattern="^(train|held-out)$")] = "train"
    """Where tasks are drawn from."""
    max_turns: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Actions after which an episode is truncated."""


class MadeAnswer(Answer):
    """An instance, without an episode yet."""

    instance: str
    """What the other calls take."""


class ResetBody(Body):
    """An episode to begin."""

    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Draws the task; equal seeds give equal tasks."""


class ResetAnswer(Answer):
    """The beginning of an episode."""

    observation: str
    """The task, what is seen first, and how to act."""
    info: dict[str, JsonValue]


class StepBody(Body):
    """One action."""

    action: Text
    """`{"name": …, "arguments": {…}}` as a text, or the text argument of the only tool."""


class StepAnswer(Answer):
    """What the action brought about."""

    observation: str
    reward: float
    """The step's, and with the last one the verdict's on top."""
    terminated: bool
    truncated: bool
    info: dict[str, JsonValue]


@router.get("/environments")
async def names(caller: Caller) -> list[str]:
    """List the environments that can be made."""
    return list(caller.desk.environments.names())


@router.post("/environments/{environment:path}/make", status_code=201)
async def make(environment: str, body: MakeBody, caller: Caller) -> MadeAnswer:
    """Make an instance, which is closed when it is not used for a while."""
    opened = caller.desk.environments.make(
        environment, body.settings, split=body.split, max_turns=body.max_turns, tenant=caller.tenant
    )
    return MadeAnswer(instance=opened.id)


@router.post("/environments/{instance}/reset")
async def reset(instance: str, body: ResetBody, caller: Caller) -> ResetAnswer:
    """Begin a new episode."""
    observation, info = await caller.desk.environments.get(instance, caller.tenant).reset(body.seed)
    return ResetAnswer.model_validate({"observation": observation, "info": info})


@router.post("/environments/{instance}/step")
async def step(instance: str, body: StepBody, caller: Caller) -> StepAnswer:
    """Carry out one action."""
    return StepAnswer.model_validate(await caller.desk.environments.get(instance, caller.tenant).step(body.action))


@router.post("/environments/{instance}/close", status_code=204, response_class=Response)
async def close(instance: str, caller: Caller) -> None:
    """Close an instance and delete its sandbox."""
    environments = caller.desk.environments
    await environments.close(environments.get(instance, caller.tenant))
