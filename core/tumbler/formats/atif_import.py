"""ATIF documents to trajectories: our own come back equal, others as far as they go. Knows no file."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from tumbler.contracts.environment import Verdict
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import JSON, JSONObject, ToolCall
from tumbler.errors import TrajectoryError
from tumbler.formats.atif_foreign import foreign_trajectory, text_of
from tumbler.formats.atif_mark import MARK_SCHEMA, find_mark
from tumbler.formats.atif_schema import AtifDocument, AtifStep, read_document
from tumbler.trajectory import Trajectory, trajectory_from_json, verify_trajectory

__all__ = ["trajectory_from_atif"]


def trajectory_from_atif(
    document: JSONObject,
    *,
    tokenizer: TextTokenizer | None = None,
    write_reply: Callable[[str, Sequence[ToolCall]], str] | None = None,
    verdict: Verdict | None = None,
) -> Trajectory:
    """Return the trajectory that the document tells of.

    One that `trajectory_to_atif` wrote comes back equal, and the other arguments are of no account. Any other one
    becomes a trajectory of the source `expert` that reinforcement learning cannot train.

    Args:
        document: ATIF from version 1.0 to 1.8.
        tokenizer: encodes the texts of a foreign document anew; None takes the token ids that its steps hold.
        write_reply: the text with which your agent says a message and makes calls; needed with a tokenizer for a
            foreign document whose steps make calls. A scaffold's protocol decides it.
        verdict: of a foreign document, which holds none; without one the trajectory has the status `dropped`.

    Raises:
        TrajectoryError: what is no such document, or lacks what a trajectory needs; the message says what is missing.
    """
    parsed = read_document(document)
    fields = find_mark(parsed.extra, "document")
    if fields is None:
        trajectory = foreign_trajectory(parsed, tokenizer=tokenizer, write_reply=write_reply, verdict=verdict)
    else:
        trajectory = _own(parsed, fields)
    verify_trajectory(trajectory)
    return trajectory


def _own(document: AtifDocument, fields: dict[str, JSON]) -> Trajectory:
    schema = fields.pop("schema", None)
    if schema != MARK_SCHEMA:
        raise TrajectoryError(
            f"the document was written by another version of Tumbler (extra.tumbler.schema is {schema}, and "
            f"{MARK_SCHEMA} is known); read it with that version"
        )
    exact = fields.pop("exact", None)
    if exact is not None:
        return trajectory_from_json(json.loads(str(exact)))
    steps = _agent_steps(document)
    segments = _segments(fields, steps)
    return trajectory_from_json({**fields, "segments": segments, "chunks": [_chunk(*each) for each in steps]})


def _agent_steps(document: AtifDocument) -> list[tuple[AtifStep, dict[str, JSON]]]:
    """Return the steps of all agents with what we wrote into them, in the order of the record."""
    found: dict[JSON, tuple[AtifStep, dict[str, JSON]]] = {}
    for step in _all_steps(document):
        fields = find_mark(step.extra, f"step {step.step_id}") if step.source == "agent" else None
        if fields is not None:
            found[fields.pop("index", None)] = (step, fields)
    if set(found) != set(range(len(found))):
        raise TrajectoryError(
            f"the document was changed after Tumbler wrote it: its agent steps tell of the chunks "
            f"{sorted(str(index) for index in found)}, not of each from 0 on once; remove extra.tumbler from it and "
            "its steps to read it as a foreign document"
        )
    return [found[index] for index in range(len(found))]


def _all_steps(document: AtifDocument) -> Iterator[AtifStep]:
    yield from document.steps
    for each in document.subagent_trajectories or ():
        yield from _all_steps(each)


def _segments(fields: dict[str, JSON], steps: Sequence[tuple[AtifStep, dict[str, JSON]]]) -> list[JSON]:
    """Return the segments with the token ids that the steps hold."""
    segments = [dict(cast("JSONObject", each)) for each in cast("Sequence[JSON]", fields.get("segments", ()))]
    token_ids: list[list[int]] = [[] for _ in segments]
    for index, (step, chunk) in enumerate(steps):
        prompt, completion = _token_ids(step)
        place = chunk.get("segment")
        if not isinstance(place, int) or not 0 <= place < len(segments):
            raise TrajectoryError(f"chunk {index} lies in segment {place}, which the document does not have")
        if prompt[: len(token_ids[place])] != token_ids[place]:
            raise TrajectoryError(f"chunk {index}: prompt_token_ids do not extend those before in segment {place}")
        token_ids[place] = [*prompt, *completion]
    for segment, known in zip(segments, token_ids, strict=True):
        segment["token_ids"] = [*known, *cast("list[int]", segment.pop("rest", []))]
    return list(segments)


def _token_ids(step: AtifStep) -> tuple[list[int], list[int]]:
    metrics = step.metrics
    if metrics is None or metrics.prompt_token_ids is None or metrics.completion_token_ids is None:
        raise TrajectoryError(
            f"step {step.step_id} has lost its prompt_token_ids or completion_token_ids since Tumbler wrote it"
        )
    return metrics.prompt_token_ids, metrics.completion_token_ids


def _chunk(step: AtifStep, fields: dict[str, JSON]) -> JSON:
    prompt, completion = _token_ids(step)
    results = step.observation.results if step.observation else []
    logprobs = step.metrics.logprobs if step.metrics else None
    calls: list[JSON] = [
        {"name": call.function_name, "arguments": call.arguments, **(find_mark(call.extra, call.tool_call_id) or {})}
        for call in step.tool_calls or ()
    ]
    return {
        **fields,
        "text": text_of(step.message, step.step_id),
        "start": len(prompt),
        "end": len(prompt) + len(completion),
        "behaviour_logprobs": logprobs or [],
        "tool_calls": calls,
        "observation": text_of(results[0].content, step.step_id) if results else "",
    }
