"""Ragged batches twice over: plain objects for slow references, and `TokenBatch` tensors made of them.

A layout is a tuple of trajectories, each a tuple of segments, each a tuple of runs (kind, length), where
the kind is "other" (prompts, observations), "chunk" (trained by RL) or "expert" (replayed). Token ids
number the tokens of a batch from 1, so that gradients can be compared whatever the rows look like.
"""

import itertools
import math
import random
from dataclasses import dataclass, fields, replace

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
    initial: float = 0.0
    entropy: float = 0.0
    value: float = 0.0
    old_value: float = 0.0


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
        return [token for run in self.replayed for token in run.tokens]

    @property
    def replayed(self):
        return [run for segment in self.segments for run in segment if run.kind == "expert"]

    @property
    def runs(self):
        """All chunks, replayed ones too: their places in this list are their positions."""
        return [run for segment in self.segments for run in segment if run.kind != "other"]


@st.composite
def plain_batches(draw, **options):
    """A strategy of plain trajectories, filled as `fill` does with the options."""
    return fill(draw(layouts()), seed=draw(st.integers(0, 1 << 30)), **options)


@st.composite
def token_batches(draw, **options):
    """A strategy of ragged batches as (plain trajectories, `TokenBatch`), in rows and columns of any order.

    Where no chunk and no imitated token is, there is anything, NaN too. For a batch of its own, draw
    `plain_batches` and give it to `tensors`.
    """
    plain = draw(plain_batches(**options))
    seeds = st.none() | st.integers(0, 99)
    shuffle, noise = draw(seeds), draw(seeds)
    return plain, tensors(
        plain, shuffle=shuffle, noise=noise, padding=draw(st.integers(0, 3)), pack=draw(st.booleans())
    )


def layouts(max_trajectories=4):
    """A strategy of layouts; some trajectories and segments hold no chunk, and some trajectories no token at all."""
    run = st.tuples(st.sampled_from(("other", "chunk", "chunk", "expert")), st.integers(1, 5))
    segment = st.lists(run, min_size=1, max_size=5).map(tuple)
    trajectory = st.lists(segment, max_size=3).map(tuple)
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
            id=next(ids),
            old=old,
            policy=old + rng.gauss(drift, stale),
            behaviour=old - rng.gauss(gap, mismatch),
            initial=old + rng.gauss(0, 0.5),
            entropy=rng.expovariate(1.0),
            value=rng.gauss(0, 1),
            old_value=rng.gauss(0, 1),
        )

    def one_run(kind, length):
        drift, gap = rng.gauss(0, stale), rng.gauss(0, mismatch / 2)
        tokens = tuple(token(drift, gap) for _ in range(length))
        credit = {"other": 0.0, "chunk": rng.gauss(0, 1), "expert": rng.random()}[kind]
        return Run(kind=kind, tokens=tokens, credit=credit)

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
    """The batch as tensors, with all optional fields.

    `shuffle` (a seed) permutes rows, chunks and trajectories; `padding` adds columns; `pack` lays all
    segments into one row; `noise` (a seed) puts anything, NaN too, where no chunk and no imitated token
    is, and into what nothing may read of the latter.
    """
    mix = random.Random(shuffle)
    order = list(range(len(trajectories)))
    if shuffle is not None:
        mix.shuffle(order)
    trained = _indices(trajectories, "chunk", shuffle)
    replayed = _indices(trajectories, "expert", shuffle)
    rows = _rows(trajectories, trained, replayed, None if noise is None else random.Random(noise))
    if shuffle is not None:
        mix.shuffle(rows)
    if pack:
        rows = [[column for row in rows for column in row]]
    nothing = _column(Token(id=0, policy=0.0, old=0.0, behaviour=0.0), -1, -1)
    outside = nothing if noise is None else (0, *itertools.islice(itertools.cycle(NOISE), 7), -1, -1)
    width = max([len(row) for row in rows], default=0) + padding
    rows = [[*row, *[outside] * (width - len(row))] for row in rows]
    ids, *values, chunk_of_token, imitation = _columns(rows, width, dtype)
    policy, old, behaviour, initial, entropies, value, old_value = values
    chunk_fields = {
        **_chunk_fields(trajectories, order, trained, "chunk", dtype),
        **_chunk_fields(trajectories, order, replayed, "expert", dtype),
    }
    return TokenBatch(
        token_ids=ids,
        policy_logprobs=policy.requires_grad_(),
        old_logprobs=old,
        behaviour_logprobs=behaviour,
        reference_logprobs=initial,
        entropies=entropies.requires_grad_(),
        values=value.requires_grad_(),
        old_values=old_value,
        chunk_of_token=chunk_of_token,
        imitation_chunk_of_token=imitation,
        imitation_mask=imitation >= 0,
        reward=torch.tensor(_placed([each.reward for each in trajectories], order), dtype=dtype),
        **chunk_fields,
    )


def spoilt(batch, where):
    """The same batch with NaN where `where`, [B, T], says so, in every field that holds numbers of tokens."""
    names = ("policy_logprobs", "old_logprobs", "behaviour_logprobs", "reference_logprobs", "entropies")
    names = (*names, "values", "old_values")
    anew = {name: getattr(batch, name).detach().masked_fill(where, math.nan) for name in names}
    for name in ("policy_logprobs", "entropies", "values"):
        anew[name].requires_grad_()
    return replace(batch, **anew)


def _indices(trajectories, kind, shuffle):
    """The index of each run of the kind; those of one trajectory ascend."""
    owners = [index for index, each in enumerate(trajectories) for run in each.runs if run.kind == kind]
    if shuffle is None:
        return list(range(len(owners)))
    drawn = [*owners]
    random.Random(shuffle).shuffle(drawn)
    of_owner = {owner: iter([slot for slot, other in enumerate(drawn) if other == owner]) for owner in owners}
    return [next(of_owner[owner]) for owner in owners]


def _rows(trajectories, trained, replayed, rng):
    """A row of token columns for each segment."""
    indices = {"chunk": iter(trained), "expert": iter(replayed)}
    rows = []
    for segment in (segment for each in trajectories for segment in each.segments):
        row = []
        for run in segment:
            index = next(indices[run.kind]) if run.kind in indices else -1
            chunk, expert = (index if run.kind == kind else -1 for kind in ("chunk", "expert"))
            tokens = (
                run.tokens if rng is None or run.kind == "chunk" else [_noisy(token, run, rng) for token in run.tokens]
            )
            row += [_column(token, chunk, expert) for token in tokens]
        rows.append(row)
    return rows


def _noisy(token, run, rng):
    """The token with anything in the fields that must not be read of such a run."""
    read = ("id", "policy") if run.kind == "expert" else ("id",)
    return replace(token, **{each.name: rng.choice(NOISE) for each in fields(Token) if each.name not in read})


def _column(token, chunk, expert):
    values = token.policy, token.old, token.behaviour, token.initial, token.entropy, token.value, token.old_value
    return token.id, *values, chunk, expert


def _columns(rows, width, dtype):
    """A tensor for each field of the columns; [rows, width] each."""
    dtypes = (torch.int64, *[dtype] * 7, torch.int64, torch.int64)
    return [
        torch.tensor([[column[place] for column in row] for row in rows], dtype=each).view(len(rows), width)
        for place, each in enumerate(dtypes)
    ]


def _placed(values, indices):
    """The values, each at its index."""
    placed = dict(zip(indices, values, strict=True))
    return [placed[index] for index in range(len(placed))]


def _chunk_fields(trajectories, order, indices, kind, dtype):
    """What the batch says of the chunks of a kind, placed by `indices`, and their trajectories, placed by `order`."""
    runs = [
        (run.credit, owner, position)
        for owner, each in zip(order, trajectories, strict=True)
        for position, run in enumerate(each.runs)
        if run.kind == kind
    ]
    names = {"chunk": "chunk", "expert": "imitation"}[kind]
    return {
        f"{names}_credit": torch.tensor(_placed([credit for credit, _, _ in runs], indices), dtype=dtype),
        f"{names}_trajectory": torch.tensor(_placed([owner for _, owner, _ in runs], indices), dtype=torch.int64),
        f"{names}_position": torch.tensor(_placed([position for _, _, position in runs], indices), dtype=torch.int64),
    }


def gradients(batch, output, of="policy_logprobs"):
    """Token id → gradient of the loss's total with respect to a field of the batch; padding must have none."""
    (gradient,) = torch.autograd.grad(output.total, getattr(batch, of), retain_graph=True)
    by_id = dict(zip(batch.token_ids.flatten().tolist(), gradient.flatten().tolist(), strict=True))
    assert not gradient[batch.token_ids == 0].any()
    by_id.pop(0, None)
    return by_id


def add_up(outputs):
    """The sums of total, denominator and metrics over micro-batches, as a training backend takes them."""
    outputs, metrics = list(outputs), {}
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
        segments=tuple(
            Segment(id=index, token_ids=tuple(range(1 + 3 * each)), cause="rewrite" if index else "start")
            for index in range(segments)
        ),
        chunks=chunks,
        reward=reward,
        **fields,
    )
