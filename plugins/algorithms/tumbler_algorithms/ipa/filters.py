"""Which rollouts IPA refuses, and why (arXiv 2512.24873, 3.2.4.5; arXiv 2503.14476). Drops nothing itself."""

from collections import Counter
from collections.abc import Iterable

from tumbler.contracts.algorithm import Group
from tumbler.trajectory.record import Chunk, Trajectory
from tumbler_algorithms.ipa.resampling_settings import FilterSettings
from tumbler_algorithms.parts.calls import call_text

__all__ = ["reject_group", "reject_trajectory"]


def reject_trajectory(trajectory: Trajectory, settings: FilterSettings) -> str:
    """Return why a rollout is refused, or "".

    A call is illegal if its turn was malformed or ended in an execution error. Replayed turns are the
    expert's, and count for nothing. Reasons are few and the same for like rollouts, so that they can be counted.
    """
    if settings.truncated and trajectory.status == "truncated":
        return f"cut off: {trajectory.status_reason or 'a limit struck'}"
    turns = [chunk for chunk in trajectory.chunks if not chunk.replayed]
    if 0 < settings.illegal_calls <= _longest_row(turns):
        return f"{settings.illegal_calls} illegal calls in a row"
    if 0 < settings.repeated_illegal <= _most_repeated(turns):
        return f"the same illegal call {settings.repeated_illegal} times"
    return ""


def reject_group(group: Group, settings: FilterSettings) -> str:
    """Return why a group is refused, or ""; a single rollout has nothing to be compared with, and stays."""
    rewards = {each.reward for each in group.trajectories}
    return "no spread of rewards" if settings.flat_groups and len(rewards) == 1 < len(group.trajectories) else ""


def _longest_row(turns: Iterable[Chunk]) -> int:
    longest = row = 0
    for chunk in turns:
        row = row + 1 if chunk.errored else 0
        longest = max(longest, row)
    return longest


def _most_repeated(turns: Iterable[Chunk]) -> int:
    """Return how often the illegal call was made that was made most often."""
    return max(Counter(call_text(chunk) for chunk in turns if chunk.errored).values(), default=0)
