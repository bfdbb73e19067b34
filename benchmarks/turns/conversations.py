"""Conversations of `trail`, as long as the expert's: what is asked, and how long each reply and answer is.

Knows no engine. The replies that count are the engine's own; of the expert's only the length is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message
from tumbler.rollout.rendering import Renderer
from tumbler_agents.react import protocol
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.settings import TrailSettings

__all__ = ["Conversation", "Spoken", "spoken", "tokenised"]


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One episode in words."""

    instruction: str
    turns: tuple[tuple[str, str], ...]
    """What the expert said, and what the environment answered."""

    @property
    def text(self) -> str:
        """Return all of it, to make a tokenizer from."""
        return "\n".join([self.instruction, *(f"{reply}\n{answer}" for reply, answer in self.turns)])


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One episode in tokens."""

    prompt: tuple[int, ...]
    turns: tuple[tuple[int, tuple[int, ...]], ...]
    """How many tokens the reply has, and what comes after it."""


async def spoken(count: int, turns: int) -> Sequence[Spoken]:
    """Return episodes of exactly so many turns; the expert of a long trail takes about two for each step."""
    settings = TrailSettings(steps=16, shell="twin")
    environment = TrailEnvironment(settings)
    found: list[Spoken] = []
    for task in await environment.tasks("train", count=count, seed=0):
        await environment.reset(task, seed=0, sandbox=None)
        expert, observation, said = environment.expert(task, seed=0), "", []
        while len(said) < turns and (action := expert.act(observation)) is not None:
            observation = (await environment.step(action.call)).observation
            said.append((protocol.write(action.call), observation))
        await environment.close()
        if len(said) == turns:
            found.append(Spoken(instruction=task.instruction, turns=tuple(said)))
    return found


def tokenised(episode: Spoken, tokenizer: TextTokenizer) -> Conversation:
    """Return the episode's tokens, as an episode of the agent `react` would have them."""
    renderer = Renderer(tokenizer)
    turns = []
    for reply, answer in episode.turns:
        # Behind a reply that ended by itself, as every reply here is taken to do.
        after = renderer.tail([Message(role="user", content=answer)], last_token=tokenizer.end_of_turn)
        assert after is not None, "the chat template appends"
        turns.append((len(tokenizer.encode(reply)) + 1, tuple(after)))
    return Conversation(
        prompt=tuple(renderer.prompt([Message(role="user", content=episode.instruction)])), turns=tuple(turns)
    )
