"""The trajectory record: header, segments, chunks, reward, status. Knows no tensor and no text format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tumbler.contracts.values import JSON, ToolCall

__all__ = ["CAUSES", "Anchor", "AnchorRef", "Chunk", "Component", "Header", "Segment", "Status", "Trajectory"]

Status: TypeAlias = Literal["completed", "truncated", "infra_failed", "policy_violation", "dropped"]
"""`completed`: the agent stopped or the environment ended it. `truncated`: a limit struck; the verdict counts.
`infra_failed`: no verdict, never trained, rolled again. `policy_violation`: the policy broke a rule of the
sandbox; the verdict counts. `dropped`: left out for `status_reason`.
"""


CAUSES: Mapping[str, str] = {
    "start": "the episode begins",
    "rewrite": "the conversation says something else than it did",
    "sub-agent": "another agent speaks",
    "strategy": "a context strategy asks the policy",
    "tools": "the tools on offer changed",
    "drift": "a client gave a reply of the policy back in other words",
    "parallel": "the conversation goes on in two ways at once",
    "retry": "the same was asked again",
}
"""Why a segment is opened → what that means."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """Which component took part: its id, its plugin's version, and a hash of its settings."""

    id: str
    version: str
    settings_hash: str


@dataclass(frozen=True, kw_only=True)
class AnchorRef:
    """The anchor of a trajectory by name: `chunk` chunks of the expert's trajectory were replayed."""

    expert: str
    chunk: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where a trajectory comes from."""

    id: str
    task: str
    env: Component
    agent: Component
    context: tuple[Component, ...] = ()
    seed: int = 0
    group: str = ""
    anchor: AnchorRef | None = None
    source: Literal["policy", "expert", "teacher"] = "policy"
    tokenizer: str = ""
    """Fingerprint of the tokenizer and chat template."""
    temperature: float = 1.0
    """At which the policy was sampled and its log-probabilities taken."""
    isolation: str | None = None
    """The sandbox's tier as obtained; None without a sandbox."""
    network: str | None = None
    """What the sandbox could reach when it was made: `none`, `public`, or `allowlist` with its hosts and ranges."""
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of token history in which each prompt extends the last one exactly."""

    id: int
    token_ids: tuple[int, ...]
    parent: int | None = None
    cause: str = "start"
    """Why it was opened, one of `CAUSES`."""
    agent_id: str = "main"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One contiguous run of assistant tokens between two interactions with the environment.

    It covers positions `start` to `end` (exclusive) of its segment.
    """

    segment: int
    start: int
    end: int
    text: str = ""
    sampled: bool = True
    """Whether the policy of this episode sampled the tokens; false for an expert's."""
    replayed: bool = False
    """Whether the chunk was replayed to reach an anchor."""
    trainable: bool = True
    """Whether RL may train it; never true unless `sampled`, nor when `replayed`."""
    behaviour_logprobs: tuple[float, ...] = ()
    """One for each token if `sampled`, else empty: the inference engine's, for the segment's own prompt."""
    policy_version: int | None = None
    finish_reason: Literal["stop", "length", "abort"] = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    observation: str = ""
    """What the environment answered."""
    reward: float = 0.0
    """The environment's reward for this turn."""
    errored: bool = False
    """An execution error, or a malformed call, in this turn."""
    relevant: bool = True


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The trainable record of one episode."""

    header: Header
    segments: tuple[Segment, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    """In the order in which they were sampled, over all segments."""
    reward: float | None = None
    """The final reward; None if there is no verdict."""
    success: bool | None = None
    status: Status = "completed"
    status_reason: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by phase: anchor (waiting for its preparation), sandbox, reset, model, tools, verify."""
    details: Mapping[str, JSON] = field(default_factory=dict)
    """The verdict's details and the agent's outcome."""

    @property
    def id(self) -> str:
        """Return the id, unique in the run."""
        return self.header.id

    @property
    def judged(self) -> bool:
        """Return whether there is a verdict that counts."""
        return self.reward is not None and self.status not in ("infra_failed", "dropped")

    @property
    def sampled_tokens(self) -> int:
        """Return how many tokens the policy sampled."""
        return sum(chunk.end - chunk.start for chunk in self.chunks if chunk.sampled)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A chunk of an expert trajectory from which a rollout starts (arXiv 2512.24873, 3.2.4.5)."""

    expert: Trajectory
    chunk: int
    """How many of the expert's chunks are replayed; the policy samples from this index on."""

    @property
    def ref(self) -> AnchorRef:
        """Return the anchor by name."""
        return AnchorRef(expert=self.expert.id, chunk=self.chunk)
