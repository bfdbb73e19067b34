"""Trajectories to ATIF documents. Nothing is lost: `trajectory_from_atif` gives back an equal trajectory.

A chunk becomes an `agent` step, the main agent's in the root document and each other agent's in an embedded one.
Knows no file.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from tumbler.contracts.values import JSON, JSONObject, ToolCall
from tumbler.formats.atif_mark import HELD_BY_STEPS, MARK_SCHEMA, mark
from tumbler.formats.atif_schema import (
    AtifAgent,
    AtifCall,
    AtifDocument,
    AtifFinalMetrics,
    AtifMetrics,
    AtifObservation,
    AtifReference,
    AtifResult,
    AtifStep,
    Extra,
    write_document,
)
from tumbler.formats.conversations import opening_text
from tumbler.formats.portable import portable
from tumbler.trajectory import Chunk, Segment, Trajectory, trajectory_from_json, trajectory_to_json, verify_trajectory

__all__ = ["trajectory_to_atif"]


def trajectory_to_atif(trajectory: Trajectory) -> JSONObject:
    """Return the trajectory as a document of ATIF-v1.8.

    Texts that UTF-8 cannot carry and numbers that JSON lacks are replaced where readers look for them; such a
    trajectory is also kept word for word, as JSON text, in `extra.tumbler.exact`. Raises `TrajectoryError` if the
    trajectory breaks a rule of the record.
    """
    verify_trajectory(trajectory)
    record = trajectory_to_json(trajectory)
    shown = cast("JSONObject", portable(record))
    exact = None if shown == _plain(record) else json.dumps(record)
    return write_document(_Writer(trajectory_from_json(shown), exact).document())


def _plain(value: JSON) -> JSON:
    """Return the value with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _Writer:
    """Writes one trajectory."""

    trajectory: Trajectory
    exact: str | None

    def document(self) -> AtifDocument:
        """Return the root document."""
        others = [agent for agent in self._agents()[1:] if self._chunks_of(agent)]
        main = self._agents()[0]
        steps = _numbered([*self._opening(), *self._agent_steps(main)] or [self._placeholder()])
        return AtifDocument(
            session_id=self.trajectory.id,
            trajectory_id=self.trajectory.id,
            agent=self._agent(self.trajectory.header.agent.id),
            steps=steps,
            notes=f"{self.trajectory.status}: {self.trajectory.status_reason}".removesuffix(": "),
            final_metrics=self._sums(steps),
            extra=self._root_extra(),
            subagent_trajectories=[self._embedded(agent) for agent in others] or None,
        )

    def _embedded(self, agent: str) -> AtifDocument:
        return AtifDocument(
            session_id=self.trajectory.id,
            trajectory_id=self._embedded_id(agent),
            agent=self._agent(agent),
            steps=_numbered(self._agent_steps(agent)),
        )

    def _agent(self, name: str) -> AtifAgent:
        return AtifAgent(name=name, version=self.trajectory.header.agent.version)

    def _embedded_id(self, agent: str) -> str:
        return f"{self.trajectory.id}#{agent}"

    def _agents(self) -> list[str]:
        """Return the agents in the order in which they began; the first is the main one."""
        return list(dict.fromkeys(segment.agent_id for segment in self.trajectory.segments)) or ["main"]

    def _agent_of(self, chunk: Chunk) -> str:
        return self.trajectory.segments[chunk.segment].agent_id

    def _chunks_of(self, agent: str) -> list[tuple[int, Chunk]]:
        return [(index, each) for index, each in enumerate(self.trajectory.chunks) if self._agent_of(each) == agent]

    def _opening(self) -> list[AtifStep]:
        text = opening_text(self.trajectory)
        return [AtifStep(step_id=1, source="user", message=text)] if text else []

    def _placeholder(self) -> AtifStep:
        """Return the step of a trajectory that has none: a document without steps is not allowed."""
        return AtifStep(step_id=1, source="system", message="The episode ended before its first step.")

    def _agent_steps(self, agent: str) -> Iterator[AtifStep]:
        previous: int | None = None
        references = self._references()
        for index, chunk in self._chunks_of(agent):
            if previous is not None and chunk.segment != previous:
                yield _boundary(self.trajectory.segments[chunk.segment])
            previous = chunk.segment
            yield self._step(index, chunk, references.get(index, ()))

    def _step(self, index: int, chunk: Chunk, references: Sequence[str]) -> AtifStep:
        calls = [_call(index, place, call) for place, call in enumerate(chunk.tool_calls)]
        rest = {key: _plain(value) for key, value in asdict(chunk).items() if key not in HELD_BY_STEPS}
        return AtifStep(
            step_id=1,
            source="agent",
            message=chunk.text,
            tool_calls=calls or None,
            observation=self._observation(chunk, calls, references),
            metrics=self._metrics(chunk),
            is_copied_context=True if chunk.replayed else None,
            llm_call_count=1 if chunk.sampled else None,
            extra=mark({"index": index, **rest}),
        )

    def _metrics(self, chunk: Chunk) -> AtifMetrics:
        token_ids = self.trajectory.segments[chunk.segment].token_ids
        return AtifMetrics(
            prompt_tokens=chunk.start,
            completion_tokens=chunk.end - chunk.start,
            prompt_token_ids=list(token_ids[: chunk.start]),
            completion_token_ids=list(token_ids[chunk.start : chunk.end]),
            logprobs=list(chunk.behaviour_logprobs) or None,
        )

    def _observation(
        self, chunk: Chunk, calls: Sequence[AtifCall], references: Sequence[str]
    ) -> AtifObservation | None:
        """Return one result: the record keeps what all calls of a chunk brought as one text."""
        if not (chunk.observation or calls or references):
            return None
        result = AtifResult(
            source_call_id=calls[0].tool_call_id if len(calls) == 1 else None,
            content=chunk.observation,
            subagent_trajectory_ref=[
                AtifReference(trajectory_id=self._embedded_id(agent), session_id=self.trajectory.id)
                for agent in references
            ]
            or None,
        )
        return AtifObservation(results=[result])

    def _references(self) -> dict[int, list[str]]:
        """Return chunk → agents that it called into being, as far as the record tells."""
        found: dict[int, list[str]] = {}
        for agent in self._agents()[1:]:
            chunks = self._chunks_of(agent)
            caller = self._caller(chunks[0][0], chunks[0][1].segment) if chunks else None
            if caller is not None:
                found.setdefault(caller, []).append(agent)
        return found

    def _caller(self, before: int, segment: int) -> int | None:
        """Return the last chunk before index `before` by the nearest ancestor of the segment that had one."""
        parent = self.trajectory.segments[segment].parent
        while parent is not None:
            ancestor = self.trajectory.segments[parent]
            earlier = [index for index, _ in self._chunks_of(ancestor.agent_id) if index < before]
            if earlier:
                return earlier[-1]
            parent = ancestor.parent
        return None

    def _sums(self, steps: Sequence[AtifStep]) -> AtifFinalMetrics:
        metrics = [step.metrics for step in steps if step.metrics is not None]
        return AtifFinalMetrics(
            total_prompt_tokens=sum(each.prompt_tokens or 0 for each in metrics),
            total_completion_tokens=sum(each.completion_tokens or 0 for each in metrics),
            total_steps=len(steps),
            extra={"reward": self.trajectory.reward, "success": self.trajectory.success},
        )

    def _root_extra(self) -> Extra:
        record = trajectory_to_json(self.trajectory)
        fields: dict[str, JSON] = {key: value for key, value in record.items() if key != "chunks"}
        fields["segments"] = [self._segment(segment) for segment in self.trajectory.segments]
        if self.exact is not None:
            fields["exact"] = self.exact
        return mark({"schema": MARK_SCHEMA, **cast("dict[str, JSON]", _plain(fields))})

    def _segment(self, segment: Segment) -> JSON:
        """Return the segment without the token ids that its steps hold."""
        held = max((chunk.end for chunk in self.trajectory.chunks if chunk.segment == segment.id), default=0)
        fields: dict[str, JSON] = {key: value for key, value in asdict(segment).items() if key != "token_ids"}
        return {**fields, "rest": list(segment.token_ids[held:])}


def _numbered(steps: Iterator[AtifStep] | Sequence[AtifStep]) -> list[AtifStep]:
    return [step.model_copy(update={"step_id": number}) for number, step in enumerate(steps, 1)]


def _call(chunk: int, place: int, call: ToolCall) -> AtifCall:
    rest = {key: value for key, value in asdict(call).items() if key not in ("name", "arguments")}
    return AtifCall(
        tool_call_id=f"call-{chunk}-{place}",
        function_name=call.name,
        arguments=cast("Extra", call.arguments),
        extra=mark(rest) if rest else None,
    )


def _boundary(segment: Segment) -> AtifStep:
    """Return the step that tells readers that what came before is no longer the context as it was."""
    replaced: Extra = {"context_management": {"type": "compaction", "boundary": "replace"}}
    return AtifStep(
        step_id=1,
        source="system",
        message=f"New context ({segment.cause}): the whole of it is in the next step's prompt_token_ids.",
        extra=replaced if segment.cause == "rewrite" else None,
    )
