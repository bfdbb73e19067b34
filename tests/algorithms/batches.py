"""Ragged batches twice over: plain objects for slow references, and `TokenBatch` tensors made of them.

A layout is a tuple of trajectories, each a tuple of segments, each a tuple of runs (kind, length), where
the kind is "other" (prompts, observations), "chunk" (trained by RL) or "expert" (replayed). Token ids
number the tokens of a batch from 1, so that gradients can be compared whatever the rows look like.
"""

import math
import random
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st

from tumbler.contracts.batch import TokenBatch
from tumbler.trajectory.record import Chunk, Component, Header, Segment, Trajectory

NOISE = (math.nan, math.inf, -math.inf, -3.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Token:
    id: int
    policy: float
    old: float
    behaviour: float


@dataclass(frozen=True, kw_only=True)
class Run:
    kind: str
    tokens: tuple[Token, ...]
    credit: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PlainTrajectory:
    reward: float
    segments: tuple[tuple[Run, ...], ...]

    @property
    def chunks(self):
        return [run for segment in self.segments for run in segment if run.kind == "chunk"]

    @property
    def imitated(self):
        return [token for segment in self.segments for run in segment if run.kind == "expert" for token in run.tokens]


def layouts(max_trajectories=4):
    """A strategy of layouts; some trajectories and segments hold no chunk at all."""
    run = st.tuples(st.sampled_from(("other", "chunk", "chunk", "expert")), st.integers(1, 5))
    segment = st.lists(run, min_size=1, max_size=5).map(tuple)
    trajectory = st.lists(segment, min_size=1, max_size=3).map(tuple)
    return st.lists(trajectory, min_size=1, max_size=max_trajectories).map(tuple)


def fill(layout, *, seed=0, stale=0.5, mismatch=0.8, rewards=(-1.0, 0.0, 1.0)):
    """Plain trajectories of the layout with random log-probabilities, credits and rewards.

    `stale` is the spread of log π_θ - log π_old, `mismatch` that of log π_old - log μ; with the
    defaults about one chunk in four is masked at H = 1.5.
    """
    rng = random.Random(seed)
    ids = iter(range(1, 1 << 20))

    def token(drift, gap):
        old = -rng.expovariate(0.5)
        return Token(
            id=next(ids), old=old, policy=old + rng.gauss(drift, stale), behaviour=old - rng.gauss(gap, mismatch)
        )

    def one_run(kind, length):
        drift, gap = rng.gauss(0, stale), rng.gauss(0, mismatch / 2)
        tokens = tuple(token(drift, gap) for _ in range(length))
        return Run(kind=kind, tokens=tokens, credit=rng.gauss(0, 1) if kind == "chunk" else 0.0)

    return [
        PlainTrajectory(
            reward=rng.choice(rewards),
            segments=tuple(tuple(one_run(kind, length) for kind, length in segment) for segment in trajectory),
        )
        for trajectory in layout
    ]


def with_chunks(trajectories, change):
    """The same trajectories, each chunk replaced by `change(trajectory, chunk)`."""

    def changed(trajectory, run):
        return change(trajectory, run) if run.kind == "chunk" else run

    return [
        replace(each, segments=tuple(tuple(changed(each, run) for run in segment) for segment in each.segments))
        for each in trajectories
    ]


def with_tokens(run, change):
    """The same run, each token replaced by `change(token)`."""
    return replace(run, tokens=tuple(change(token) for token in run.tokens))


def split_segments(trajectories):
    """The same trajectories with a segment for each run."""
    return [
        replace(each, segments=tuple((run,) for segment in each.segments for run in segment)) for each in trajectories
    ]


def join_segments(trajectories):
    """The same trajectories with one segment each."""
    return [
        replace(each, segments=(tuple(run for segment in each.segments for run in segment),)) for each in trajectories
    ]


def tensors(trajectories, *, dtype=torch.float64, shuffle=None, padding=0, pack=False, noise=None):
    """The batch as tensors.

    `shuffle` (a seed) permutes rows, chunk indices and trajectory indices; `padding` adds columns; `pack`
    lays all segments into one row; `noise` (a seed) puts anything, NaN too, where no chunk and no
    imitated token is.
    """
    mix = random.Random(shuffle)
    order = list(range(len(trajectories)))
    slots = list(range(sum(len(each.chunks) for each in trajectories)))
    if shuffle is not None:
        mix.shuffle(order)
        mix.shuffle(slots)
    rows = _rows(trajectories, slots, None if noise is None else random.Random(noise))
    if shuffle is not None:
        mix.shuffle(rows)
    if pack:
        rows = [[column for row in rows for column in row]]
    outside = (0.0, 0.0, 0.0) if noise is None else (math.nan, math.inf, -math.inf)
    width = max(len(row) for row in rows) + padding
    padded = [[*row, *[(0, *outside, -1, False)] * (width - len(row))] for row in rows]
    ids, policy, old, behaviour, chunk_of_token, imitation = (
        _tensor([column[field] for column in row] for row in padded) for field in range(6)
    )
    return TokenBatch(
        token_ids=ids,
        policy_logprobs=policy.to(dtype).requires_grad_(),
        old_logprobs=old.to(dtype),
        behaviour_logprobs=behaviour.to(dtype),
        chunk_of_token=chunk_of_token,
        imitation_mask=imitation,
        **_chunk_fields(trajectories, order, slots, dtype),
    )


def _tensor(rows):
    values = list(rows)
    return torch.tensor(values, dtype=torch.float64 if isinstance(values[0][0], float) else None)


def _rows(trajectories, slots, rng):
    """A row of token columns for each segment, the chunks numbered by `slots`."""
    slot = iter(slots)
    rows = []
    for segment in (segment for each in trajectories for segment in each.segments):
        row = []
        for run in segment:
            chunk = next(slot) if run.kind == "chunk" else -1
            row += [_column(token, run.kind, chunk, rng) for token in run.tokens]
        rows.append(row)
    return rows


def _chunk_fields(trajectories, order, slots, dtype):
    """What the batch says of chunks and trajectories, chunks placed by `slots` and trajectories by `order`."""
    credit, owner, position = [0.0] * len(slots), [0] * len(slots), [0] * len(slots)
    rewards = [0.0] * len(trajectories)
    slot = iter(slots)
    for index, each in zip(order, trajectories, strict=True):
        rewards[index] = each.reward
        runs = [run for segment in each.segments for run in segment if run.kind != "other"]
        for place, run in enumerate(runs):
            if run.kind == "chunk":
                chunk = next(slot)
                credit[chunk], owner[chunk], position[chunk] = run.credit, index, place
    return {
        "chunk_credit": torch.tensor(credit, dtype=dtype),
        "chunk_trajectory": torch.tensor(owner, dtype=torch.int64),
        "chunk_position": torch.tensor(position, dtype=torch.int64),
        "reward": torch.tensor(rewards, dtype=dtype),
    }


def _column(token, kind, chunk, rng):
    policy, old, behaviour = token.policy, token.old, token.behaviour
    if rng is not None and kind != "chunk":
        old, behaviour = rng.choice(NOISE), rng.choice(NOISE)
        policy = policy if kind == "expert" else rng.choice(NOISE)
    return token.id, policy, old, behaviour, chunk, kind == "expert"


def gradients(batch, output):
    """Token id → gradient of the loss's total; padding must have none."""
    (gradient,) = torch.autograd.grad(output.total, batch.policy_logprobs)
    by_id = dict(zip(batch.token_ids.flatten().tolist(), gradient.flatten().tolist(), strict=True))
    assert not gradient[batch.token_ids == 0].any()
    by_id.pop(0, None)
    return by_id


def add_up(outputs):
    """The sums of total, denominator and metrics over micro-batches, as a training backend takes them."""
    metrics = {}
    for output in outputs:
        for name, (value, count) in output.metrics.items():
            before = metrics.get(name, (0.0, 0.0))
            metrics[name] = (before[0] + value, before[1] + count)
    return sum(output.total.item() for output in outputs), sum(output.denominator for output in outputs), metrics


def trajectory(reward=1.0, *, turns=(0.0, 0.0, 0.0), segments=1, replayed=0, **fields):
    """A record with one chunk for each turn reward, dealt out over the segments in order."""
    each = -(-len(turns) // segments) if turns else 0
    chunks = tuple(
        Chunk(
            segment=index // each,
            start=1 + 3 * (index % each),
            end=3 + 3 * (index % each),
            reward=turn,
            sampled=index >= replayed,
            replayed=index < replayed,
            trainable=index >= replayed,
            behaviour_logprobs=(-0.5, -0.5) if index >= replayed else (),
            policy_version=0 if index >= replayed else None,
        )
        for index, turn in enumerate(turns)
    )
    component = Component(id="any", version="1", settings_hash="0")
    fields = {"success": reward is not None and reward > 0, **fields}
    return Trajectory(
        header=Header(id="t", task="task", env=component, agent=component),
        segments=tuple(Segment(id=index, token_ids=tuple(range(1 + 3 * each))) for index in range(segments)),
        chunks=chunks,
        reward=reward,
        **fields,
    )
