"""Trajectories for the tests of formats: one with everything in it, and any that keep the rules of the record."""

from hypothesis import strategies as st

from tumbler.contracts.values import ToolCall
from tumbler.trajectory import AnchorRef, Chunk, Component, Header, Segment, Trajectory
from tumbler.trajectory.record import CAUSES

REACT = Component(id="react", version="0.1.0", settings_hash="7aa")
MASK = Component(id="mask-observations", version="0.1.0", settings_hash="7ab")


def rich_trajectory() -> Trajectory:
    """Return an episode with a replayed chunk, a rewrite of the context and a sub-agent."""
    return Trajectory(
        header=Header(
            id="3-rl/0/7",
            task="k",
            env=REACT,
            agent=REACT,
            context=(MASK,),
            seed=2**63 + 1,
            anchor=AnchorRef(expert="e", chunk=1),
        ),
        segments=(
            Segment(id=0, token_ids=(1, 2, 3, 4, 5, 6)),
            Segment(id=1, token_ids=(21, 22, 23), parent=0, cause="sub-agent", agent_id="searcher"),
            Segment(id=2, token_ids=(1, 9, 7, 8, 40), parent=0, cause="rewrite"),
            Segment(id=3, token_ids=(50, 51), parent=2, cause="sub-agent", agent_id="never spoke"),
        ),
        chunks=(
            Chunk(
                segment=0, start=1, end=2, text="one", sampled=False, replayed=True, trainable=False, observation="two"
            ),
            sampled(0, 3, 5, text="call", tool_calls=(ToolCall(name="task", arguments={"q": None}),), observation="4"),
            sampled(1, 1, 3, text="found ✓", errored=True, observation="no such tool"),
            sampled(2, 2, 4, text="done", relevant=False),
        ),
        reward=0.5,
        success=True,
        seconds={"model": 1.5},
        details={"instruction": "Find it.", "first_observation": "a room", "list": [1, {"b": None}]},
    )


def sampled(segment: int, start: int, end: int, **fields: object) -> Chunk:
    """Return a chunk that the policy sampled."""
    logprobs = tuple(-0.5 - place for place in range(end - start))
    return Chunk(segment=segment, start=start, end=end, behaviour_logprobs=logprobs, policy_version=3, **fields)


texts = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["", "\ud800", "a\x00\u2028b", '"\\u0041"', "日本語 🎲"]
)
numbers = st.floats(allow_nan=False) | st.integers(-(2**70), 2**70)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=3)
components = st.builds(Component, id=texts, version=texts, settings_hash=texts)
headers = st.builds(
    Header,
    id=texts,
    task=texts,
    env=components,
    agent=components,
    context=st.lists(components, max_size=2).map(tuple),
    seed=st.integers(0, 2**64),
    anchor=st.none() | st.builds(AnchorRef, expert=texts, chunk=st.integers(0, 5)),
    source=st.sampled_from(["policy", "expert", "teacher"]),
    temperature=st.floats(0, 2),
    isolation=st.none() | texts,
)
causes = st.sampled_from([cause for cause in CAUSES if cause != "start"])
agents = st.sampled_from(["main", "searcher", "zoë", "\udc80"])
token_ids = st.integers(0, 200_000)


@st.composite
def _chunks(draw, segment: int, start: int, length: int) -> Chunk:
    fields = {
        "text": draw(texts),
        "finish_reason": draw(st.sampled_from(["stop", "length", "abort"])),
        "tool_calls": tuple(draw(st.lists(st.builds(ToolCall, name=texts, arguments=objects), max_size=2))),
        "observation": draw(texts),
        "reward": draw(st.floats(allow_nan=False)),
        "errored": draw(st.booleans()),
        "relevant": draw(st.booleans()),
    }
    if not draw(st.booleans()):
        replayed = draw(st.booleans())
        return Chunk(
            segment=segment,
            start=start,
            end=start + length,
            sampled=False,
            replayed=replayed,
            trainable=False,
            **fields,
        )
    logprobs = st.floats(max_value=0, allow_infinity=False, allow_nan=False)
    return Chunk(
        segment=segment,
        start=start,
        end=start + length,
        behaviour_logprobs=tuple(draw(logprobs) for _ in range(length)),
        policy_version=draw(st.integers(0, 9)),
        trainable=draw(st.booleans()),
        **fields,
    )


@st.composite
def _segments(draw, index: int) -> tuple[Segment, list[Chunk]]:
    place, chunks = 0, []
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=3)):
        chunks.append(draw(_chunks(index, place + gap, length)))
        place += gap + length
    size = place + draw(st.integers(0, 3))
    segment = Segment(
        id=index,
        token_ids=tuple(draw(st.lists(token_ids, min_size=size, max_size=size))),
        parent=draw(st.none() | st.integers(0, index - 1)) if index else None,
        cause=draw(causes) if index else "start",
        agent_id=draw(agents),
    )
    return segment, chunks


@st.composite
def trajectories(draw) -> Trajectory:
    """Any trajectory that keeps the rules of the record: agents interleaved, any status, hostile texts."""
    made = [draw(_segments(index)) for index in range(draw(st.integers(0, 4)))]
    waiting = [list(chunks) for _, chunks in made]
    order = draw(st.permutations([index for index, chunks in enumerate(waiting) for _ in chunks]))
    status = draw(st.sampled_from(["completed", "truncated", "infra_failed", "policy_violation", "dropped"]))
    judged = status in ("completed", "truncated", "policy_violation")
    details = draw(objects)
    if draw(st.booleans()):
        details["instruction"] = draw(texts)
    return Trajectory(
        header=draw(headers),
        segments=tuple(segment for segment, _ in made),
        chunks=tuple(waiting[index].pop(0) for index in order),
        reward=draw(st.floats(-1e6, 1e6)) if judged else None,
        success=draw(st.booleans()) if judged else None,
        status=status,
        status_reason=draw(texts.filter(bool)) if not judged else draw(texts),
        seconds=draw(st.dictionaries(texts, st.floats(0, 1e6), max_size=2)),
        details=details,
    )
