"""Our ATIF documents: Harbor's own models accept them, and nothing of a trajectory is lost in them."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
from harbor.models.trajectories import Trajectory as HarborTrajectory
from harbor.utils.trajectory_validator import TrajectoryValidator
from hypothesis import HealthCheck, given, settings
from tests.core.formats.records import rich_trajectory, trajectories

from tumbler.errors import TrajectoryError
from tumbler.formats import trajectory_from_atif, trajectory_to_atif
from tumbler.testing import sample_trajectory
from tumbler.trajectory import Trajectory


@pytest.fixture
def document() -> dict:
    return json.loads(json.dumps(trajectory_to_atif(rich_trajectory())))


def harbor_problems(document: dict) -> list[str]:
    validator = TrajectoryValidator()
    validator.validate(document)
    return validator.get_errors()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trajectories())
def test_harbor_accepts_what_is_exported_and_it_comes_back_equal(trajectory: Trajectory) -> None:
    text = json.dumps(trajectory_to_atif(trajectory), allow_nan=False, ensure_ascii=False)
    text.encode()
    document = json.loads(text)
    assert harbor_problems(document) == []
    assert trajectory_from_atif(document) == trajectory


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trajectories())
def test_a_document_that_harbor_has_read_and_written_comes_back_equal(trajectory: Trajectory) -> None:
    document = json.loads(json.dumps(trajectory_to_atif(trajectory)))
    written = HarborTrajectory.model_validate_json(json.dumps(document)).to_json_dict()
    assert trajectory_from_atif(json.loads(json.dumps(written))) == trajectory


def test_each_model_call_keeps_its_own_prompt_reply_and_log_probabilities(document: dict) -> None:
    metrics = [step["metrics"] for step in document["steps"] if step["source"] == "agent"]
    assert [each["prompt_token_ids"] for each in metrics] == [[1], [1, 2, 3], [1, 9]]
    assert [each["completion_token_ids"] for each in metrics] == [[2], [4, 5], [7, 8]]
    assert [each.get("logprobs") for each in metrics] == [None, [-0.5, -1.5], [-0.5, -1.5]]


def test_loss_mask_fork_index_and_policy_version_are_in_extra(document: dict) -> None:
    ours = [step["extra"]["tumbler"] for step in document["steps"] if step["source"] == "agent"]
    assert [(each["trainable"], each["segment"], each["policy_version"]) for each in ours] == [
        (False, 0, None),
        (True, 0, 3),
        (True, 2, 3),
    ]
    tree = document["extra"]["tumbler"]["segments"]
    assert [(each["parent"], each["cause"], each["agent_id"]) for each in tree[:2]] == [
        (None, "start", "main"),
        (0, "sub-agent", "searcher"),
    ]


def test_replayed_chunks_are_marked_as_copied_so_that_nobody_trains_them(document: dict) -> None:
    assert [step.get("is_copied_context") for step in document["steps"]] == [None, True, None, None, None]


def test_a_sub_agent_is_embedded_and_named_by_the_step_that_called_it(document: dict) -> None:
    (embedded,) = document["subagent_trajectories"]
    assert embedded["agent"]["name"] == "searcher"
    assert [step["message"] for step in embedded["steps"]] == ["found ✓"]
    (result,) = document["steps"][2]["observation"]["results"]
    assert result["source_call_id"] == document["steps"][2]["tool_calls"][0]["tool_call_id"]
    assert [each["trajectory_id"] for each in result["subagent_trajectory_ref"]] == [embedded["trajectory_id"]]


def test_a_rewrite_of_the_context_is_told_where_harbor_looks_for_it(document: dict) -> None:
    boundary = document["steps"][3]
    assert (boundary["source"], boundary["extra"]["context_management"]["boundary"]) == ("system", "replace")


def test_reward_and_instruction_are_where_readers_look_for_them(document: dict) -> None:
    assert document["final_metrics"]["extra"] == {"reward": 0.5, "success": True}
    assert document["final_metrics"]["total_steps"] == len(document["steps"])
    assert document["steps"][0]["message"] == "Find it.\na room"


def test_an_episode_that_failed_before_its_first_step_is_a_document_too() -> None:
    failed = replace(sample_trajectory(turns=0, reward=None), status_reason="SandboxDied: oom")
    document = trajectory_to_atif(failed)
    assert harbor_problems(dict(document)) == []
    assert document["notes"] == "infra_failed: SandboxDied: oom"
    assert trajectory_from_atif(document) == failed


def test_a_trajectory_that_breaks_a_rule_of_the_record_is_not_exported() -> None:
    with pytest.raises(TrajectoryError, match="without reward"):
        trajectory_to_atif(replace(rich_trajectory(), reward=None))


def test_the_document_is_not_changed_by_reading_it(document: dict) -> None:
    before = deepcopy(document)
    trajectory_from_atif(document)
    assert document == before


def test_a_document_whose_steps_were_removed_is_refused(document: dict) -> None:
    del document["subagent_trajectories"]
    document["steps"][2]["observation"]["results"][0].pop("subagent_trajectory_ref")
    with pytest.raises(TrajectoryError, match=r"changed after Tumbler wrote it.*\['0', '1', '3'\]"):
        trajectory_from_atif(document)


def test_a_document_whose_token_ids_were_removed_is_refused(document: dict) -> None:
    del document["steps"][2]["metrics"]["prompt_token_ids"]
    with pytest.raises(TrajectoryError, match="step 3 has lost its prompt_token_ids"):
        trajectory_from_atif(document)


def test_a_document_whose_prompts_do_not_fit_together_is_refused(document: dict) -> None:
    document["steps"][2]["metrics"]["prompt_token_ids"][0] = 99
    with pytest.raises(TrajectoryError, match="chunk 1: prompt_token_ids do not extend"):
        trajectory_from_atif(document)


def test_a_step_in_a_segment_that_is_not_there_is_refused(document: dict) -> None:
    document["steps"][1]["extra"]["tumbler"]["segment"] = 9
    with pytest.raises(TrajectoryError, match="chunk 0 lies in segment 9"):
        trajectory_from_atif(document)


def test_fields_that_a_later_version_added_are_refused_by_name(document: dict) -> None:
    document["steps"][1]["extra"]["tumbler"]["colour"] = "red"
    with pytest.raises(TrajectoryError, match="colour"):
        trajectory_from_atif(document)


def test_a_document_of_another_schema_of_ours_is_refused(document: dict) -> None:
    document["extra"]["tumbler"]["schema"] = 2
    with pytest.raises(TrajectoryError, match="another version of Tumbler"):
        trajectory_from_atif(document)


def test_an_extra_of_ours_that_is_no_object_is_refused(document: dict) -> None:
    document["extra"]["tumbler"] = "yes"
    with pytest.raises(TrajectoryError, match=r"extra\.tumbler is no object"):
        trajectory_from_atif(document)
