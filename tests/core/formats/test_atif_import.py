"""ATIF documents of other programs: what they hold is taken, what is missing is named, nothing is made up."""

from copy import deepcopy

import pytest
from harbor.utils.trajectory_validator import validate_trajectory

from tumbler.contracts.environment import Verdict
from tumbler.contracts.values import ToolCall
from tumbler.errors import TrajectoryError
from tumbler.formats import trajectory_from_atif, trajectory_to_atif
from tumbler.testing import CharacterTokenizer
from tumbler.trajectory import verify_trajectory

CALL = {"tool_call_id": "c", "function_name": "shell", "arguments": {"command": "ls"}}
ANSWER = {"results": [{"source_call_id": "c", "content": "a.txt"}, {"content": [{"type": "text", "text": "b.txt"}]}]}


def agent_step(number: int, message: str, prompt=None, completion=None, **fields) -> dict:
    metrics = {"prompt_token_ids": prompt, "completion_token_ids": completion} if prompt else None
    return {"step_id": number, "source": "agent", "message": message, "metrics": metrics, **fields}


def with_ids() -> dict:
    """A document whose context is rewritten before its third model call, with an embedded agent."""
    embedded = {
        "schema_version": "ATIF-v1.8",
        "trajectory_id": "helper",
        "agent": {"name": "helper", "version": "1"},
        "steps": [agent_step(1, "sub", [7], [8])],
    }
    reference = {"results": [{"content": "8", "subagent_trajectory_ref": [{"trajectory_id": "helper"}]}]}
    return {
        "schema_version": "ATIF-v1.8",
        "session_id": "run",
        "agent": {"name": "terminus-2", "version": "2.0"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "Do it."},
            agent_step(2, "look", [1, 2], [3], tool_calls=[CALL], observation=ANSWER),
            agent_step(3, "ask", [1, 2, 3, 4], [5], observation=reference),
            agent_step(4, "end", [1, 9], [6], is_copied_context=True),
        ],
        "subagent_trajectories": [embedded],
        "notes": "a note",
    }


def with_texts() -> dict:
    return {
        "schema_version": "ATIF-v1.6",
        "session_id": "run",
        "agent": {"name": "other", "version": "1"},
        "steps": [
            {"step_id": 1, "source": "system", "message": "S"},
            {"step_id": 2, "source": "user", "message": "U"},
            agent_step(3, "one", observation={"results": [{"content": "O"}]}),
            agent_step(4, "two"),
        ],
    }


@pytest.mark.parametrize("document", [with_ids(), with_texts()])
def test_the_documents_of_these_tests_are_valid_for_harbor(document: dict) -> None:
    assert validate_trajectory(document)


def test_token_ids_give_segments_by_exact_prefix() -> None:
    trajectory = trajectory_from_atif(with_ids())
    assert [(each.token_ids, each.parent, each.cause, each.agent_id) for each in trajectory.segments] == [
        ((1, 2, 3, 4, 5), None, "start", "main"),
        ((7, 8), 0, "sub-agent", "helper"),
        ((1, 9, 6), 0, "rewrite", "main"),
    ]
    assert [each.text for each in trajectory.chunks] == ["look", "ask", "sub", "end"]


def test_calls_and_observations_are_taken_over() -> None:
    chunk = trajectory_from_atif(with_ids()).chunks[0]
    assert chunk.tool_calls == (ToolCall(name="shell", arguments={"command": "ls"}),)
    assert chunk.observation == "a.txt\nb.txt"


def test_nothing_of_a_foreign_document_can_be_trained_by_reinforcement() -> None:
    trajectory = trajectory_from_atif(with_ids(), verdict=Verdict(reward=1.0, success=True))
    assert not any(chunk.sampled or chunk.trainable or chunk.behaviour_logprobs for chunk in trajectory.chunks)
    assert [chunk.replayed for chunk in trajectory.chunks] == [False, False, False, True]
    assert trajectory.header.source == "expert"


def test_without_a_verdict_the_trajectory_is_dropped_and_says_so() -> None:
    trajectory = trajectory_from_atif(with_ids())
    assert (trajectory.status, trajectory.status_reason) == ("dropped", "imported without a verdict")
    assert (trajectory.reward, trajectory.judged) == (None, False)


def test_a_verdict_makes_it_a_judged_trajectory() -> None:
    trajectory = trajectory_from_atif(with_ids(), verdict=Verdict(reward=0.0, success=False, details={"tests": 2}))
    assert (trajectory.status, trajectory.reward, trajectory.success) == ("completed", 0.0, False)
    assert trajectory.details == {"tests": 2, "instruction": "Do it.", "atif_notes": "a note"}


def test_an_import_can_be_exported_and_comes_back_equal() -> None:
    trajectory = trajectory_from_atif(with_ids())
    assert trajectory_from_atif(trajectory_to_atif(trajectory)) == trajectory


def test_texts_are_encoded_with_the_tokenizer_that_is_given() -> None:
    tokenizer = CharacterTokenizer()
    trajectory = trajectory_from_atif(with_texts(), tokenizer=tokenizer)
    verify_trajectory(trajectory)
    (segment,) = trajectory.segments
    written = "".join(map(chr, segment.token_ids))
    assert written == "system\nS\x03user\nU\x03assistant\none\x03user\nO\x03assistant\ntwo\x03"
    assert [written[each.start : each.end] for each in trajectory.chunks] == ["one\x03", "two\x03"]
    assert trajectory.header.tokenizer == tokenizer.fingerprint


def test_texts_without_a_tokenizer_are_refused_with_what_is_missing() -> None:
    with pytest.raises(TrajectoryError, match=r"step 3 has no metrics\.prompt_token_ids.*give a tokenizer"):
        trajectory_from_atif(with_texts())


def test_token_ids_of_several_calls_at_once_are_no_prompt() -> None:
    document = with_ids()
    document["steps"][1]["llm_call_count"] = 2
    with pytest.raises(TrajectoryError, match="step 2 sums up 2 model calls"):
        trajectory_from_atif(document)


def test_calls_in_a_text_need_the_agents_own_way_to_write_them() -> None:
    document = with_texts()
    document["steps"][2]["tool_calls"] = [CALL]
    with pytest.raises(TrajectoryError, match=r"step 3 makes tool calls.*give write_reply"):
        trajectory_from_atif(document, tokenizer=CharacterTokenizer())
    trajectory = trajectory_from_atif(
        document,
        tokenizer=CharacterTokenizer(),
        write_reply=lambda text, calls: text + "".join(f"\n$ {call.arguments['command']}" for call in calls),
    )
    assert trajectory.chunks[0].text == "one\n$ ls"


def test_an_agents_step_without_a_model_call_is_context_and_no_reply() -> None:
    document = with_texts()
    document["steps"][2]["llm_call_count"] = 0
    trajectory = trajectory_from_atif(document, tokenizer=CharacterTokenizer())
    assert [each.text for each in trajectory.chunks] == ["two"]
    assert "assistant\none" in "".join(map(chr, trajectory.segments[0].token_ids))


def test_a_step_that_replaces_the_context_opens_a_segment() -> None:
    document = with_texts()
    boundary = {"context_management": {"type": "compaction", "boundary": "replace"}}
    document["steps"][3:] = [
        {"step_id": 4, "source": "system", "message": "Summary.", "extra": boundary},
        agent_step(5, "two"),
    ]
    trajectory = trajectory_from_atif(document, tokenizer=CharacterTokenizer())
    assert [each.cause for each in trajectory.segments] == ["start", "rewrite"]
    assert "".join(map(chr, trajectory.segments[1].token_ids)) == "system\nSummary.\x03assistant\ntwo\x03"


def test_images_and_sound_are_refused_where_they_are() -> None:
    document = with_texts()
    picture = {"type": "image", "source": {"media_type": "image/png", "path": "a.png"}}
    document["steps"][1]["message"] = [{"type": "text", "text": "U"}, picture]
    with pytest.raises(TrajectoryError, match="step 2 holds image"):
        trajectory_from_atif(document, tokenizer=CharacterTokenizer())


def test_a_document_without_a_model_call_is_no_trajectory() -> None:
    document = with_texts()
    document["steps"] = document["steps"][:2]
    with pytest.raises(TrajectoryError, match="no agent step"):
        trajectory_from_atif(document, tokenizer=CharacterTokenizer())


def test_a_document_without_names_is_named_by_its_content() -> None:
    document = with_ids()
    del document["session_id"]
    other = deepcopy(document)
    other["steps"][0]["message"] = "Do something else."
    first, again, different = (trajectory_from_atif(each).id for each in (document, deepcopy(document), other))
    assert first == again != different


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": "ATIF-v1.9"}, r"schema_version is 'ATIF-v1\.9', and ATIF-v1\.0 to ATIF-v1\.8 are known"),
        ({"steps": []}, "steps: List should have at least 1 item"),
        ({"agent": {"name": "a"}}, r"agent\.version: Field required"),
        ({"step": 1}, "step: Extra inputs are not permitted"),
        ({"steps": [{"step_id": 2, "source": "user", "message": ""}]}, "place 1 has step_id 2"),
    ],
)
def test_what_is_no_atif_is_refused_with_the_place(change: dict, message: str) -> None:
    with pytest.raises(TrajectoryError, match=message):
        trajectory_from_atif({**with_ids(), **change})
