"""ATIF documents of other programs to trajectories that nothing trains by reinforcement; knows no file.

Their prompts are the token ids that the steps hold, or texts that a tokenizer encodes; what such a document does not
say is not made up.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from tumbler.contracts.environment import Verdict
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import JSON, Message, ToolCall
from tumbler.errors import TrajectoryError
from tumbler.formats.atif_schema import AtifDocument, AtifPart, AtifStep, write_document
from tumbler.rollout.recorder import Recorder
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory

__all__ = ["foreign_trajectory", "text_of"]

ReplyWriter: TypeAlias = Callable[[str, Sequence[ToolCall]], str]
_Record: TypeAlias = tuple[tuple[Segment, ...], tuple[Chunk, ...]]
_MAIN = "main"


def foreign_trajectory(
    document: AtifDocument,
    *,
    tokenizer: TextTokenizer | None,
    write_reply: ReplyWriter | None,
    verdict: Verdict | None,
) -> Trajectory:
    """Return the trajectory, none of whose chunks counts as sampled by a policy of ours."""
    steps = list(_walk(document, _MAIN))
    if not any(_is_reply(step) for _, step in steps):
        raise TrajectoryError("the document has no agent step that stands for a model call, so there is no trajectory")
    segments, chunks = _from_ids(steps) if tokenizer is None else _from_texts(steps, tokenizer, write_reply)
    known = None if verdict is None else (verdict.reward, verdict.success)
    return Trajectory(
        header=_header(document, tokenizer),
        segments=segments,
        chunks=chunks,
        reward=known[0] if known else None,
        success=known[1] if known else None,
        status="completed" if known else "dropped",
        status_reason="" if known else "imported without a verdict",
        details={**(verdict.details if verdict else {}), **_details(document)},
    )


def text_of(content: str | Sequence[AtifPart] | None, step: int) -> str:
    """Return the text of a message or result; raise `TrajectoryError` for images and sound."""
    if content is None or isinstance(content, str):
        return content or ""
    other = sorted({part.type for part in content if part.type != "text"})
    if other:
        raise TrajectoryError(f"step {step} holds {' and '.join(other)}; a trajectory holds text only")
    return "\n".join(part.text or "" for part in content)


def _header(document: AtifDocument, tokenizer: TextTokenizer | None) -> Header:
    content = json.dumps(write_document(document), sort_keys=True).encode()
    agent = Component(id=document.agent.name, version=document.agent.version, settings_hash="")
    return Header(
        id=document.trajectory_id or document.session_id or hashlib.sha256(content).hexdigest()[:16],
        task="",
        env=Component(id="atif", version=document.schema_version, settings_hash=""),
        agent=agent,
        source="expert",
        tokenizer="" if tokenizer is None else tokenizer.fingerprint,
    )


def _details(document: AtifDocument) -> dict[str, JSON]:
    """Return what a reader wants to see, the instruction among it."""
    first = next((step for step in document.steps if step.source == "user"), None)
    found: dict[str, JSON] = {} if first is None else {"instruction": text_of(first.message, first.step_id)}
    for name in ("notes", "continued_trajectory_ref"):
        if getattr(document, name) is not None:
            found[f"atif_{name}"] = getattr(document, name)
    return found


def _walk(document: AtifDocument, agent: str) -> Iterator[tuple[str, AtifStep]]:
    """Yield all steps with their agent's name; an embedded agent's follow the step that refers to it, or come last."""
    embedded = {each.trajectory_id: each for each in document.subagent_trajectories or ()}
    for step in document.steps:
        yield agent, step
        for name in _references(step):
            called = embedded.pop(name, None)
            if called is not None:
                yield from _walk(called, str(name))
    for name, each in embedded.items():
        yield from _walk(each, str(name))


def _references(step: AtifStep) -> Iterator[str | None]:
    for result in step.observation.results if step.observation else ():
        for reference in result.subagent_trajectory_ref or ():
            yield reference.trajectory_id


def _is_reply(step: AtifStep) -> bool:
    return step.source == "agent" and step.llm_call_count != 0


def _from_ids(steps: Sequence[tuple[str, AtifStep]]) -> _Record:
    segments: list[Segment] = []
    chunks: list[Chunk] = []
    current: dict[str, int] = {}
    for agent, step in steps:
        if not _is_reply(step):
            continue
        prompt, completion = _token_ids(step)
        place = current.get(agent)
        if place is None or prompt[: len(segments[place].token_ids)] != segments[place].token_ids:
            cause = ("sub-agent" if segments else "start") if place is None else "rewrite"
            parent = (len(segments) - 1 if segments else None) if place is None else place
            place = current[agent] = len(segments)
            segments.append(Segment(id=place, token_ids=(), parent=parent, cause=cause, agent_id=agent))
        extended = (*prompt, *completion)
        former = segments[place]
        segments[place] = Segment(
            id=place, token_ids=extended, parent=former.parent, cause=former.cause, agent_id=agent
        )
        chunks.append(_chunk(step, text_of(step.message, step.step_id), place, len(prompt), len(extended)))
    return tuple(segments), tuple(chunks)


def _token_ids(step: AtifStep) -> tuple[tuple[int, ...], tuple[int, ...]]:
    metrics = step.metrics
    if metrics is None or metrics.prompt_token_ids is None or not metrics.completion_token_ids:
        raise TrajectoryError(
            f"step {step.step_id} has no metrics.prompt_token_ids and completion_token_ids; "
            "give a tokenizer to encode the document's texts"
        )
    if (step.llm_call_count or 1) > 1:
        raise TrajectoryError(
            f"step {step.step_id} sums up {step.llm_call_count} model calls, so its token ids are no single prompt; "
            "give a tokenizer to encode the document's texts"
        )
    return tuple(metrics.prompt_token_ids), tuple(metrics.completion_token_ids)


def _from_texts(
    steps: Sequence[tuple[str, AtifStep]], tokenizer: TextTokenizer, write_reply: ReplyWriter | None
) -> _Record:
    recorder = Recorder(tokenizer)
    logs: dict[str, list[Message]] = {}
    for agent, step in steps:
        log = logs.setdefault(agent, [])
        if _replaces_context(step):
            log.clear()
        if not _is_reply(step):
            log.extend(_messages(step))
            continue
        reply = _reply(step, write_reply)
        call = recorder.open_call(agent, log)
        recorder.close_call(call, [*tokenizer.encode(reply), tokenizer.end_of_turn], _chunk(step, reply))
        log.append(Message(role="assistant", content=reply))
        log.extend(_observed(step))
    return recorder.segments, recorder.chunks


def _replaces_context(step: AtifStep) -> bool:
    """Return whether the step says that what came before is no longer in the context."""
    management = (step.extra or {}).get("context_management")
    return isinstance(management, dict) and management.get("boundary") == "replace"


def _messages(step: AtifStep) -> list[Message]:
    """Return what a step without a model call adds to the conversation."""
    text = text_of(step.message, step.step_id)
    role = "assistant" if step.source == "agent" else step.source
    said = [Message(role=role, content=text)] if text else []
    return [*said, *_observed(step)]


def _observed(step: AtifStep) -> list[Message]:
    if step.observation is None:
        return []
    return [Message(role="user", content=_observation(step))]


def _observation(step: AtifStep) -> str:
    results = step.observation.results if step.observation else []
    return "\n".join(text_of(result.content, step.step_id) for result in results)


def _reply(step: AtifStep, write_reply: ReplyWriter | None) -> str:
    text = text_of(step.message, step.step_id)
    if write_reply is not None:
        return write_reply(text, _calls(step))
    if step.tool_calls:
        raise TrajectoryError(
            f"step {step.step_id} makes tool calls, and the document does not tell with which text; "
            "give write_reply, which writes them as your agent does"
        )
    return text


def _calls(step: AtifStep) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(name=call.function_name, arguments=call.arguments) for call in step.tool_calls or ())


def _chunk(step: AtifStep, text: str, segment: int = 0, start: int = 0, end: int = 0) -> Chunk:
    return Chunk(
        segment=segment,
        start=start,
        end=end,
        text=text,
        sampled=False,
        trainable=False,
        replayed=bool(step.is_copied_context),
        tool_calls=_calls(step),
        observation=_observation(step),
    )
