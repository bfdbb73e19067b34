"""Runs one episode through the runner and the pipeline that training uses, and measures its record."""

from collections.abc import Callable, Sequence

from experiments.context.arms import ROOM, Arm
from experiments.context.measures import Measured, measure
from experiments.context.scaffold import Scaffold
from experiments.context.speaking import ScriptedModel
from experiments.context.words import WordTokenizer
from experiments.context.world import World, task_of

from tumbler.contracts.agent import Limits
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import Message
from tumbler.errors import TrajectoryError
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.trajectory.record import Component

__all__ = ["play"]

_TURNS = 150
_COMPONENT = Component(id="experiment", version="0", settings_hash="")
_PRIVATE = {"helper's result": ("read",)}
"""Family → tools that only helpers have."""


async def play(
    arm: Arm,
    family: str,
    seed: int,
    *,
    strategies: Sequence[NamedStrategy] | None = None,
    on_prompt: Callable[[Sequence[Message]], None] = lambda _messages: None,
) -> Measured:
    """Play one task with an arm, or with other `strategies` in its place; `on_prompt` sees each prompt."""
    tokenizer = WordTokenizer(arm.window)
    model = ScriptedModel(tokenizer, facts=arm.facts, on_prompt=on_prompt)
    parts = EpisodeParts(
        environments={family: NamedEnvironment(build=lambda: World(family), component=_COMPONENT)},
        agent=Scaffold(private=_PRIVATE.get(family, ())),
        agent_component=_COMPONENT,
        strategies=arm.strategies() if strategies is None else strategies,
        strategy_components=(),
        tokenizer=tokenizer,
        inference=model,
        sandboxes=None,
        limits=Limits(turns=_TURNS, seconds=300.0),
    )
    request = RolloutRequest(
        id=f"{arm.name}/{family}/{seed}",
        task=task_of(family, seed),
        seed=seed,
        env_seed=seed,
        group=family,
        sampling=Sampling(max_tokens=ROOM),
        env=family,
    )
    try:
        trajectory = await LocalEpisodeRunner(parts)(request)
    except TrajectoryError as error:
        return Measured(arm=arm.name, family=family, seed=seed, violations=1, ending=f"TrajectoryError: {error}")
    return measure(
        trajectory,
        arm=arm.name,
        family=family,
        seed=seed,
        limit=arm.window - ROOM,
        orphans=model.orphans,
        shown=model.shown,
    )
