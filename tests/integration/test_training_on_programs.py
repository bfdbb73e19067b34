"""A training step on what unmodified programs did: each sampled token is in the loss once, and the weights move.

mini-SWE-agent and Qwen Code work in bubblewrap without a network. A script stands for the policy behind the gateway;
its replies are sampled with ids that no text gives again. A real tokenizer, a small Llama, the `torch` backend and IPA
do the rest.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.agents.process.playing import Played, WatchedInference, call, in_order, play, stage
from tests.integration.programs_model import CONTEXT, make_model, odd_pieces

from tumbler.contracts.algorithm import Group
from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler.contracts.training import StepReport
from tumbler.run.credit import credit_groups
from tumbler.trajectory import Trajectory
from tumbler_agents.process.mini_swe_agent.agent import MiniSweAgent
from tumbler_agents.process.mini_swe_agent.settings import MiniSweAgentSettings
from tumbler_agents.process.qwen_code.agent import QwenCodeAgent
from tumbler_agents.process.qwen_code.settings import QwenCodeSettings
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer
from tumbler_backends.training.torch.backend import TorchTraining
from tumbler_backends.training.torch.settings import OptimizerSettings, TorchTrainingSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first time the programs are installed

BRIEF = "You edit files."
"""In place of Qwen Code's own system prompt."""
SNAPSHOT = "<state_snapshot>Numbers were printed. The task is still to be done.</state_snapshot>"

Exchange = tuple[tuple[int, ...], tuple[int, ...]]
"""The ids of a prompt, and those sampled behind it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def sampling(policy, model: Path, **waiting) -> WatchedInference:
    """Return a policy that samples its words in pieces of the model's tokens."""
    tokenizer = HuggingFaceTokenizer(model)
    return WatchedInference(policy, tokenizer=tokenizer, ids=odd_pieces(tokenizer), **waiting)


class WatchedIPA(IPA):
    """IPA, which keeps what its loss saw and how the loss pulls at each token."""

    def __init__(self) -> None:
        # The script knows no probabilities of the model's, so that nothing may be masked for their sake.
        super().__init__(IPASettings(mask_level="none", gamma=0.9))
        self.seen: list[tuple[TokenBatch, torch.Tensor]] = []

    def loss(self, batch: TokenBatch) -> LossOutput:
        output = super().loss(batch)
        (pull,) = torch.autograd.grad(output.total, batch.policy_logprobs, retain_graph=True)
        self.seen.append((batch, pull))
        return output

    @property
    def trained(self) -> "Counter[Exchange]":
        """Return the replies that the loss pulled at, each behind the prompt that it had in the loss."""
        found: Counter[Exchange] = Counter()
        for batch, pull in self.seen:
            assert torch.equal(pull != 0, batch.chunk_of_token >= 0), "the loss pulls at other tokens than it may"
            for row, ids in zip(batch.chunk_of_token.tolist(), batch.token_ids.tolist(), strict=True):
                for chunk in sorted(set(row) - {-1}):
                    start, length = row.index(chunk), row.count(chunk)
                    assert row[start : start + length] == [chunk] * length, "a reply in two pieces"
                    found[tuple(ids[:start]), tuple(ids[start : start + length])] += 1
        return found


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training step, and the weights before and after it."""

    report: StepReport
    algorithm: WatchedIPA
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]


async def train(model: Path, trajectories: Sequence[Trajectory]) -> Trained:
    """Take one optimizer step on the episodes."""
    algorithm = WatchedIPA()
    settings = TorchTrainingSettings(rl=OptimizerSettings(learning_rate=1e-2), micro_batch_tokens=1)
    backend = TorchTraining(settings)
    await backend.start(model, seed=0)
    try:
        before = weights(backend)
        backend.begin("rl", optimizer_steps=1)
        group = Group(id="group", task_id="task", trajectories=tuple(trajectories))
        report = await backend.step(credit_groups(algorithm, [group]), algorithm)
        return Trained(report=report, algorithm=algorithm, before=before, after=weights(backend))
    finally:
        await backend.close()


def weights(backend: TorchTraining) -> dict[str, torch.Tensor]:
    tensors = backend.weights().tensors
    assert tensors is not None
    return {name: tensor.clone() for name, tensor in tensors()}


def require_each_token_trained_once(trained: Trained, *episodes: Played) -> None:
    """Fail unless the loss held what the policy sampled, and that alone: each token once, behind its own prompt."""
    said = Counter(exchange for each in episodes for exchange in each.inference.said)
    assert trained.algorithm.trained == said
    tokens = sum(len(reply) for _, reply in said.elements())
    assert trained.report.metrics["train/trainable_tokens"] == tokens
    assert tokens == sum(each.trajectory.sampled_tokens for each in episodes)
    assert trained.report.optimizer_steps == 1
    assert all(tensor.isfinite().all() for tensor in trained.after.values())
    still = [name for name, tensor in trained.before.items() if torch.equal(tensor, trained.after[name])]
    assert not still, f"no gradient came to {still}"


def require_solved(played: Played) -> None:
    """Fail unless the task is done, and the record is what went over the wire: none of its ids made again from text."""
    trajectory = played.trajectory
    assert trajectory.success and trajectory.status_reason == "finished", trajectory.status_reason
    played.check_tokens()
    tokenizer = played.inference.tokenizer
    replies = [reply[:-1] for _, reply in played.inference.said]
    odd = [tuple(tokenizer.encode(tokenizer.decode(each))) != each for each in replies]
    assert sum(odd) > len(odd) / 2, "the replies' ids are those that their text gives again, so nothing could drift"


def bash(command: str) -> str:
    return f"Let me see.\n{call('bash', command=command)}"


def shell(command: str) -> str:
    return call("run_shell_command", command=command, description="Work on it.", is_background=False)


def mini() -> MiniSweAgent:
    return MiniSweAgent(MiniSweAgentSettings())


def qwen(**settings) -> QwenCodeAgent:
    return QwenCodeAgent(QwenCodeSettings(**{"context_window": CONTEXT, "system_prompt": BRIEF, **settings}))


def solved(on) -> str:
    """Return one command that does the task and says so."""
    return f"{' && '.join(on.solution)}; echo EDITED"


async def play_mini(on, model) -> Played:
    """mini-SWE-agent looks twice in one reply, does the task, and submits."""
    end = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
    script = [f"{bash('ls')}\n{call('bash', command='pwd')}", *map(bash, on.solution), bash(end)]
    return await play(on, mini(), sampling(in_order(script), model))


async def play_qwen(on, model) -> Played:
    """Qwen Code, its own system prompt and all, edits a file with its own tools and does the task."""
    script = [
        call("write_file", file_path="/app/note", content="one\ntwo\n"),
        call("edit", file_path="/app/note", old_string="two", new_string="three"),
        shell(f"grep three /app/note && rm /app/note && {solved(on)}"),
        "All done.",
    ]
    return await play(on, qwen(system_prompt=None), sampling(in_order(script), model))


async def play_compaction(on, model) -> Played:
    """Qwen Code finds its context filled, has a summary of it made, and goes on from that."""

    def policy(prompt: str) -> str:
        if "<state_snapshot>" in prompt.rpartition("user\n")[2] and "seq 1 3500" in prompt:
            return SNAPSHOT
        if "seq 1 3500" not in prompt and SNAPSHOT not in prompt:
            return shell("seq 1 3500")
        return "All done." if "EDITED" in prompt else shell(solved(on))

    small = {"context_window": 60_000, "compact_at": 0.6}
    return await play(on, qwen(**small), sampling(policy, model))


def is_part(prompt: str) -> bool:
    """Return whether a sub-agent asks."""
    return ("SUBTASK-A" in prompt) != ("SUBTASK-B" in prompt)


async def play_parallel(on, model) -> Played:
    """Qwen Code has two sub-agents, each of which waits with its first request for the other one's."""

    def part(name: str) -> str:
        return call("agent", description="Look.", prompt=f"SUBTASK-{name}", subagent_type="general-purpose")

    def policy(prompt: str) -> str:
        if is_part(prompt):
            return "It is seen to." if "LOOKED" in prompt else shell("echo LOOKED")
        if "SUBTASK-A" not in prompt:
            return f"{part('A')}\n{part('B')}"
        return "All done." if "EDITED" in prompt else shell(solved(on))

    return await play(on, qwen(), sampling(policy, model, together=2, waits=is_part))


PLAYS = {"mini": play_mini, "qwen": play_qwen, "compaction": play_compaction, "parallel": play_parallel}


@pytest.fixture(scope="module")
def recorded(model, tmp_path_factory) -> Callable[[str], Played]:
    """Return a function that plays an episode, once."""

    async def record(name: str) -> Played:
        async with stage(tmp_path_factory.mktemp(name)) as on:
            return await PLAYS[name](on, model)

    return cache(lambda name: asyncio.run(record(name)))


def trained_on(model: Path, *episodes: Played) -> Trained:
    trajectories = [renamed(each.trajectory, f"episode-{index}") for index, each in enumerate(episodes)]
    return asyncio.run(train(model, trajectories))


def renamed(trajectory: Trajectory, identity: str) -> Trajectory:
    return replace(trajectory, header=replace(trajectory.header, id=identity))


def test_each_token_of_mini_swe_agent_is_trained_once(recorded, model):
    played = recorded("mini")
    require_solved(played)
    assert len(played.trajectory.chunks[0].tool_calls) == 2
    require_each_token_trained_once(trained_on(model, played), played)


def test_each_token_of_qwen_code_is_trained_once(recorded, model):
    played = recorded("qwen")
    require_solved(played)
    assert len(played.trajectory.segments) == 1
    require_each_token_trained_once(trained_on(model, played), played)


def test_each_token_is_trained_once_when_the_program_compacts_its_context(recorded, model):
    played = recorded("compaction")
    require_solved(played)
    assert any(SNAPSHOT in prompt for prompt in played.prompts), "it did not go on from its summary"
    assert "rewrite" in {segment.cause for segment in played.trajectory.segments}
    assert SNAPSHOT in [chunk.text for chunk in played.trajectory.chunks]
    require_each_token_trained_once(trained_on(model, played), played)


def test_each_token_is_trained_once_when_the_program_sends_parallel_requests(recorded, model):
    played = recorded("parallel")
    require_solved(played)
    assert sum(map(is_part, played.prompts)) == 4
    assert len(played.trajectory.segments) == 3
    require_each_token_trained_once(trained_on(model, played), played)


def test_one_step_trains_the_episodes_of_both_programs_together(recorded, model):
    played = [recorded(name) for name in PLAYS]
    require_each_token_trained_once(trained_on(model, *played), *played)
