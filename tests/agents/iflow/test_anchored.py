"""An episode from an anchor has the notes of the original: what the scaffold did by itself, and what that brought."""

from collections.abc import Sequence

import pytest
from tests.agents.iflow.scripted import BoxEnvironment, Scripted, call, calls, episode
from tests.agents.iflow.test_compaction import SumUp
from tests.agents.iflow.test_own_contexts import Noting

from tumbler.contracts.environment import Task
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSON
from tumbler.rollout.context import NamedStrategy
from tumbler.trajectory import Anchor, Chunk
from tumbler_agents.iflow.settings import IflowSettings

SETTINGS = IflowSettings(system_prompt="Be brief.")
STRATEGIES = [NamedStrategy(name="sum-up", strategy=SumUp()), NamedStrategy(name="noting", strategy=Noting())]
OWN = [
    call("read", path="notes/a"),
    calls(("write", {"path": "answer", "content": "4"}), ("hint", {}), ("no-such-tool", {})),
    call("task", prompt="Look around."),
    call("note"),
    "There is nothing.",
    call("edit", path="answer", old="4", new="42"),
    call("shell", command="cat answer"),
    "done",
]
ENVIRONMENTS = [call("hint"), calls(("hint", {}), ("hint", {})), call("shell", command="printf 42 > answer"), "done"]


class Forked(BoxEnvironment):
    """Can be forked: all that it has is in its sandbox."""

    async def state(self) -> JSON:
        return {}

    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        assert sandbox is not None
        self._sandbox = sandbox

    async def fingerprint(self) -> str:
        return (await self._sandbox.read("notes/a")).decode()


def notes(chunks: Sequence[Chunk]) -> list[object]:
    return [(chunk.tool_calls, chunk.observation, chunk.errored) for chunk in chunks]


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("script", [OWN, ENVIRONMENTS])
async def test_it_has_the_notes_that_the_original_had(backend, script, fork):
    original = await episode(SETTINGS, Scripted(*script), backend, strategies=STRATEGIES, environment=Forked)
    assert original.success, original.status_reason
    restored = set()
    for chunk in range(1, len(original.chunks)):
        anchor = Anchor(expert=original, chunk=chunk)
        rest = Scripted(*script[chunk:])
        again = await episode(
            SETTINGS, rest, backend, strategies=STRATEGIES, environment=Forked, anchor=anchor, fork=fork
        )
        assert again.success, again.status_reason
        assert notes(again.chunks) == notes(original.chunks)
        assert [each.replayed for each in again.chunks] == [index < chunk for index in range(len(again.chunks))]
        assert [each.token_ids for each in again.segments] == [each.token_ids for each in original.segments]
        restored.add(again.details["anchor_restored_by"])
    forks = fork and script is ENVIRONMENTS and backend.capabilities.snapshots
    assert restored == ({"fork", "replay"} if forks else {"replay"})
