"""Parts of an episode for the rollout tests."""

from collections.abc import Callable

import pytest

from tumbler.contracts.agent import Limits
from tumbler.contracts.environment import Environment, Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.rollout.runner import EpisodeParts, NamedEnvironment
from tumbler.testing.fakes import ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Component
from tumbler_agents.react.agent import ReactAgent
from tumbler_agents.react.settings import ReactSettings

COMPONENT = Component(id="test", version="0", settings_hash="0")


def solve(prompt: str) -> str:
    """Solve `TwoStepEnvironment`."""
    last = prompt.rsplit("user\n", 1)[-1].removesuffix("assistant\n").strip()
    if last.startswith("word: "):
        return f'@say {{"word": "{last.removeprefix("word: ")}"}}'
    return "@look"


PartsMaker = Callable[..., EpisodeParts]
RequestMaker = Callable[..., RolloutRequest]


@pytest.fixture
def make_parts() -> PartsMaker:
    def make(
        policy: Callable[[str], str] = solve,
        *,
        inference: ScriptedInference | None = None,
        environment: Callable[[], Environment] | None = None,
        limits: Limits | None = None,
        **changes: object,
    ) -> EpisodeParts:
        inference = inference or ScriptedInference(policy)
        build = environment or (lambda: TwoStepEnvironment(TwoStepSettings()))
        parts: dict[str, object] = {
            "environments": {"two-step": NamedEnvironment(build=build, component=COMPONENT)},
            "agent": ReactAgent(ReactSettings()),
            "agent_component": COMPONENT,
            "strategies": [],
            "strategy_components": (),
            "tokenizer": inference.tokenizer,
            "inference": inference,
            "sandboxes": None,
            "limits": limits or Limits(),
        }
        return EpisodeParts(**{**parts, **changes})  # type: ignore[arg-type]  # tests replace single parts

    return make


@pytest.fixture
def make_request() -> RequestMaker:
    def make(name: str = "r", **changes: object) -> RolloutRequest:
        task = Task(id="train-0-0", instruction="Look, then say the word.")
        fields: dict[str, object] = {
            "id": name,
            "task": task,
            "seed": 1,
            "group": "g",
            "sampling": Sampling(max_tokens=64),
            "env": "two-step",
        }
        return RolloutRequest(**{**fields, **changes})  # type: ignore[arg-type]  # tests replace single fields

    return make
