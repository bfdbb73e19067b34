"""What an episode's record says: was it solved, how long, how dear, and was any rule broken."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from experiments.context.grammar import facts_in

from tumbler.errors import TrajectoryError
from tumbler.trajectory.record import Chunk, Trajectory
from tumbler.trajectory.verify import verify_trajectory

__all__ = ["Measured", "measure", "shared_tokens"]

_MAIN = "main"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One episode in numbers."""

    arm: str
    family: str
    seed: int
    success: bool = False
    ending: str = ""
    """Why it ended."""
    steps: int = 0
    """Replies of the main conversation."""
    prompt_tokens: int = 0
    """Of all prompts together, those of summaries and helpers among them."""
    cached_tokens: int = 0
    """How many of these begin as a sequence did that was computed before."""
    sampled_tokens: int = 0
    strategy_tokens: int = 0
    """Prompts and replies of what strategies asked the model."""
    peak: int = 0
    """The longest prompt of the main conversation."""
    segments: int = 0
    refusals: int = 0
    """Plans that the pipeline refused as not worth their cost."""
    violations: int = 0
    """Broken rules: of plans, of the record, of prompts."""
    told: int = 0
    """Facts that the tools' answers told."""
    unshown: tuple[str, ...] = ()
    """Those of them that no prompt ever held."""

    @property
    def tokens(self) -> int:
        """Return all tokens that were read or written."""
        return self.prompt_tokens + self.sampled_tokens


def measure(
    trajectory: Trajectory,
    *,
    arm: str,
    family: str,
    seed: int,
    limit: int,
    orphans: int,
    shown: Collection[str],
) -> Measured:
    """Return what a record says.

    `limit` is the longest prompt, `orphans` counts prompts that were broken, and `shown` are the facts in prompts.
    """
    prompts = [_prompt(trajectory, chunk) for chunk in trajectory.chunks]
    main = [chunk for chunk in trajectory.chunks if _speaker(trajectory, chunk) == _MAIN]
    asked = [chunk for chunk in trajectory.chunks if trajectory.segments[chunk.segment].cause == "strategy"]
    told = _told(trajectory)
    refusals = trajectory.details.get("context_refusals", ())
    return Measured(
        arm=arm,
        family=family,
        seed=seed,
        success=bool(trajectory.success),
        ending=trajectory.status_reason,
        steps=len(main),
        prompt_tokens=sum(map(len, prompts)),
        cached_tokens=_cached(trajectory, prompts),
        sampled_tokens=trajectory.sampled_tokens,
        strategy_tokens=sum(chunk.end for chunk in asked),
        peak=max((chunk.start for chunk in main), default=0),
        segments=len(trajectory.segments),
        refusals=len(refusals) if isinstance(refusals, Sequence) else 0,
        violations=orphans + _violations(trajectory, main, limit),
        told=len(told),
        unshown=tuple(each for each in told if each not in shown),
    )


def shared_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two sequences begin with in common."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _told(trajectory: Trajectory) -> list[str]:
    """Return the facts that tools told before the last reply."""
    return [str(fact) for chunk in trajectory.chunks[:-1] for fact in facts_in(chunk.observation)]


def _speaker(trajectory: Trajectory, chunk: Chunk) -> str:
    return trajectory.segments[chunk.segment].agent_id


def _prompt(trajectory: Trajectory, chunk: Chunk) -> tuple[int, ...]:
    return trajectory.segments[chunk.segment].token_ids[: chunk.start]


def _cached(trajectory: Trajectory, prompts: Sequence[tuple[int, ...]]) -> int:
    """Return how many prompt tokens a cache of all that was computed before would have saved."""
    computed: dict[int, tuple[int, ...]] = {}
    saved = 0
    for chunk, prompt in zip(trajectory.chunks, prompts, strict=True):
        saved += max((shared_tokens(before, prompt) for before in computed.values()), default=0)
        computed[chunk.segment] = trajectory.segments[chunk.segment].token_ids[: chunk.end]
    return saved


def _violations(trajectory: Trajectory, main: Sequence[Chunk], limit: int) -> int:
    """Return how many rules are broken; an episode that ends in an error has broken one."""
    found = int(trajectory.status == "infra_failed")
    try:
        verify_trajectory(trajectory)
    except TrajectoryError:
        found += 1
    found += sum(chunk.start > limit for chunk in main)
    taken = [(chunk.segment, index) for chunk in trajectory.chunks for index in range(chunk.start, chunk.end)]
    return found + len(taken) - len(set(taken))
