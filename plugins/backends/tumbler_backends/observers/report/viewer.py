"""The trajectory viewer: a sample of episodes, turn by turn. All text in it is hostile."""

import json
from collections.abc import Sequence
from itertools import groupby

from tumbler.contracts.values import ToolCall
from tumbler.trajectory import Chunk, Trajectory
from tumbler_backends.observers.reading import text
from tumbler_backends.observers.report.markup import Markup, element
from tumbler_backends.observers.report.scale import duration, figure
from tumbler_backends.observers.report.selection import outcome_of, select_trajectories
from tumbler_backends.observers.report.source import StoredTrajectory

__all__ = ["viewer_section"]

_SIZE_LIMIT = 2_000_000
"""Characters of markup that all trajectories together may take."""
_TEXT_LIMIT = 4_000
"""Characters shown of one text."""
_TURNS_AT_ENDS = 30
"""Turns shown at each end of a long trajectory."""
_PROMPTS = ("instruction", "first_observation")


def viewer_section(stored: Sequence[StoredTrajectory]) -> Markup | None:
    """Return the section, or None for a run without trajectories."""
    shown = _fitting(select_trajectories(stored))
    if not shown:
        return None
    note = f"{len(shown)} of {len(stored)} trajectories: the first and the last of each stage, by outcome."
    return element(
        "section",
        element("h2", "Trajectories"),
        element("p", note, class_="note"),
        _filter([each for each, _ in shown]),
        element("div", *(card for _, card in shown), id="trajectories"),
        element("p", "No trajectory matches.", id="no-match", class_="note", hidden=True),
    )


def _fitting(chosen: Sequence[StoredTrajectory]) -> list[tuple[StoredTrajectory, Markup]]:
    """Return the cards that fit the page; every stage has an equal part of what room the ones before it left."""
    stages = [list(members) for _, members in groupby(chosen, key=lambda each: each.stage)]
    left = _SIZE_LIMIT
    fitting: list[tuple[StoredTrajectory, Markup]] = []
    for index, members in enumerate(stages):
        room = left // (len(stages) - index)
        for each in members:
            card = _card(each)
            if len(card) <= room:
                fitting.append((each, card))
                room -= len(card)
                left -= len(card)
    return fitting


def _filter(shown: Sequence[StoredTrajectory]) -> Markup:
    stages = sorted({each.stage for each in shown})
    outcomes = sorted({outcome_of(each) for each in shown})
    return element(
        "form",
        _choice("stage", "All stages", stages),
        _choice("outcome", "All outcomes", outcomes),
        element("input", type="search", name="words", placeholder="Search task and text", aria_label="Search"),
        element("output", f"{len(shown)} shown", id="shown"),
        id="filter",
    )


def _choice(name: str, everything: str, values: Sequence[str]) -> Markup:
    options = [element("option", value, value=value) for value in values]
    return element("select", element("option", everything, value=""), *options, name=name, aria_label=name)


def _card(stored: StoredTrajectory) -> Markup:
    trajectory = stored.trajectory
    outcome = outcome_of(stored)
    return element(
        "details",
        _summary(stored, outcome),
        element("div", _facts(trajectory), _prompt(trajectory), *_turns(trajectory), class_="episode"),
        class_="card trajectory",
        data_stage=stored.stage,
        data_outcome=outcome,
    )


def _summary(stored: StoredTrajectory, outcome: str) -> Markup:
    trajectory = stored.trajectory
    reward = "no reward" if trajectory.reward is None else f"reward {figure(trajectory.reward)}"
    when = "late" if stored.late else "early"
    source = "expert" if trajectory.header.source == "expert" else when
    return element(
        "summary",
        element("span", outcome, class_=f"badge {outcome.replace(' ', '-')}"),
        element("span", trajectory.header.task, class_="task"),
        element("span", f"{stored.stage} · {source}", class_="muted"),
        element("span", f"{reward} · {_counted(len(trajectory.chunks), 'turn')}", class_="muted right"),
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _facts(trajectory: Trajectory) -> Markup:
    header = trajectory.header
    facts = {
        "Status": " · ".join(filter(None, [trajectory.status, trajectory.status_reason])),
        "Trajectory": header.id,
        "Group": header.group,
        "Anchor": f"{header.anchor.expert}, chunk {header.anchor.chunk}" if header.anchor else "",
        "Agent": header.agent.id,
        "Environment": header.env.id,
        "Isolation": header.isolation or "",
        "Seed": str(header.seed),
        "Sampled tokens": str(trajectory.sampled_tokens) if trajectory.sampled_tokens else "",
        "Time": ", ".join(f"{phase} {duration(spent)}" for phase, spent in trajectory.seconds.items()),
        "Details": _details(trajectory),
    }
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in facts.items() if value]
    return element("dl", *rows, class_="facts")


def _details(trajectory: Trajectory) -> str:
    shown = {name: value for name, value in trajectory.details.items() if name not in _PROMPTS}
    return _clipped(json.dumps(shown, ensure_ascii=False)) if shown else ""


def _prompt(trajectory: Trajectory) -> Markup | None:
    shown = [text(trajectory.details.get(name)) for name in _PROMPTS]
    joined = "\n\n".join(filter(None, shown))
    return element("div", element("h4", "Task"), element("pre", _clipped(joined)), class_="prompt") if joined else None


def _turns(trajectory: Trajectory) -> list[Markup]:
    chunks = list(enumerate(trajectory.chunks, start=1))
    if len(chunks) <= 2 * _TURNS_AT_ENDS:
        return [_turn(number, chunk) for number, chunk in chunks]
    hidden = len(chunks) - 2 * _TURNS_AT_ENDS
    return [
        *(_turn(number, chunk) for number, chunk in chunks[:_TURNS_AT_ENDS]),
        element("p", f"{hidden} turns are left out here.", class_="note"),
        *(_turn(number, chunk) for number, chunk in chunks[-_TURNS_AT_ENDS:]),
    ]


def _turn(number: int, chunk: Chunk) -> Markup:
    return element(
        "article",
        element("header", element("b", f"Turn {number}"), *_flags(chunk), _measures(chunk)),
        element("pre", _clipped(chunk.text), class_="said") if chunk.text else None,
        *(element("pre", _called(call), class_="call") for call in chunk.tool_calls),
        element("pre", _clipped(chunk.observation), class_="observed") if chunk.observation else None,
        class_="turn",
    )


def _flags(chunk: Chunk) -> list[Markup]:
    masked = chunk.sampled and not chunk.trainable
    flags = {
        "errored": chunk.errored,
        "not relevant": not chunk.relevant,
        "replayed": chunk.replayed,
        "expert": not chunk.sampled,
        "not trained": masked,
        "cut off": chunk.finish_reason == "length",
        "aborted": chunk.finish_reason == "abort",
    }
    return [
        element("span", name, class_="flag bad" if name in ("errored", "aborted", "cut off") else "flag")
        for name, raised in flags.items()
        if raised
    ]


def _measures(chunk: Chunk) -> Markup:
    parts = [_counted(chunk.end - chunk.start, "token")]
    if chunk.behaviour_logprobs:
        mean = sum(chunk.behaviour_logprobs) / len(chunk.behaviour_logprobs)
        parts.append(f"mean log-prob {figure(round(mean, 3))}")
    if chunk.policy_version is not None:
        parts.append(f"policy v{chunk.policy_version}")
    if chunk.segment:
        parts.append(f"segment {chunk.segment}")
    if chunk.reward:
        parts.append(f"reward {figure(chunk.reward)}")
    return element("span", " · ".join(parts), class_="muted right")


def _called(call: ToolCall) -> str:
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return _clipped(f"{call.name}({arguments})")


def _clipped(content: str) -> str:
    if len(content) <= _TEXT_LIMIT:
        return content
    return f"{content[:_TEXT_LIMIT]}\n… {len(content) - _TEXT_LIMIT:,} more characters"
