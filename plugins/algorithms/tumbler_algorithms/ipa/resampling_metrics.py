"""What a step tells of initialised resampling, as metrics; changes nothing."""

from collections.abc import Sequence

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.ipa.learnt import Learnt, Rate, Record, outcome_of
from tumbler_algorithms.ipa.resampling_settings import AnchorSettings

__all__ = ["resampling_metrics"]


def resampling_metrics(groups: Sequence[Group], learnt: Learnt, anchors: AnchorSettings) -> dict[str, float]:
    """Return the metrics of a step after it was learnt from; one without anything to count is left out.

    - `ipa/success_left_N`: success rate of the rollouts from anchors that left N chunks, or up to 2N - 1, with N a
      power of 2;
    - `ipa/anchor_depth`: mean share of the expert's chunks that was replayed, over the rollouts from anchors;
    - `ipa/mastered_left`: chunks from the end that are mastered, over all tasks;
    - `ipa/rollback_left`: chunks that a rollback leaves to the policy now, as a mean over the tasks;
    - `ipa/crucial_chunks`: crucial chunks known.
    """
    outcomes: dict[int, str] = {}
    depths: list[float] = []
    for group in groups:
        if group.anchor is not None:
            chunks = len(group.anchor.expert.chunks)
            bucket = (chunks - group.anchor.chunk).bit_length()
            outcomes[bucket] = outcomes.get(bucket, "") + "".join(map(outcome_of, group.trajectories))
            depths += [group.anchor.chunk / chunks] * len(group.trajectories)
    metrics = {f"ipa/success_left_{2**bucket // 2}": Rate.of(outcomes[bucket]).share for bucket in sorted(outcomes)}
    if depths:
        metrics["ipa/anchor_depth"] = sum(depths) / len(depths)
    if learnt.shared.windows:
        metrics["ipa/mastered_left"] = float(_mastered(learnt.shared, anchors))
    if anchors.mode == "rollback":
        metrics["ipa/rollback_left"] = _mean_place(learnt, anchors)
    if anchors.mode != "none":
        metrics["ipa/crucial_chunks"] = float(sum(len(each) for each in learnt.crucial.values()))
    return metrics


def _mastered(shared: Record, anchors: AnchorSettings) -> int:
    """Return the most chunks left from which, and from all fewer ones that were tried, success is at the threshold."""
    mastered = 0
    for left in sorted(shared.windows):
        if shared.rate(left).share < anchors.threshold:
            break
        mastered = left
    return mastered


def _mean_place(learnt: Learnt, anchors: AnchorSettings) -> float:
    if anchors.scope == "global":
        return float(learnt.shared.place.left)
    places = [record.place.left for record in learnt.tasks.values()]
    return sum(places) / len(places) if places else 1.0
