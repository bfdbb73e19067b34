"""Expert trajectories: from the environment, from the policy itself, from another model; kept and made anew."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import start_run
from tumbler.run.journal import StageJournal
from tumbler.trajectory import Trajectory

Resolve = Callable[..., ResolvedRun]
ANCHORED = "runs.small.algorithm={use='fake/count', anchored=true}"


def rl_alone(resolve: Resolve, host: PluginHost, folder: Path, *overrides: str) -> dict[str, Trajectory]:
    """Run the `rl` stage alone and return its episodes by id."""
    start_run(resolve(ANCHORED, "runs.small.stages=['rl']", *overrides), folder, host)
    return StageJournal(folder / "stages/1-rl").known()


@pytest.fixture(autouse=True)
def forget(host: PluginHost) -> None:
    """The fake plugin stays imported from test to test."""
    import tumbler_fake_run

    tumbler_fake_run.STEPS.clear()


def lost_experts() -> list[float]:
    """Return how many were lost in each step, as observers were told."""
    import tumbler_fake_run

    return [each.values["rollout/lost_experts"] for each in tumbler_fake_run.STEPS]


def test_the_environments_expert_is_asked_in_each_step_by_default(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    known = rl_alone(resolve, host, tmp_path / "run", "runs.small.rl.pool=2")
    experts = [each for each in known.values() if each.header.source == "expert"]
    assert len(experts) == 10
    assert all(each.header.anchor is not None for each in known.values() if each.header.source == "policy")


def test_an_agent_that_cannot_write_an_experts_actions_is_not_asked_to(
    resolve: Resolve, host: PluginHost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = rl_alone(resolve, host, tmp_path / "run", "runs.small.agent={use='fake/mute', system_prompt=''}")
    assert {each.header.source for each in known.values()} == {"policy"}
    assert sum(lost_experts()) == 0
    assert "failed" not in caplog.text


def test_an_expert_of_a_pool_serves_until_it_is_due(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    known = rl_alone(resolve, host, tmp_path / "run", "runs.small.rl.pool=2", "runs.small.rl.experts.refresh_every=3")
    experts = sorted(each.id for each in known.values() if each.header.source == "expert")
    assert [each.split("/")[1] for each in experts] == ["0", "0", "3", "3"]


@pytest.mark.parametrize("experts", [0, 1])
def test_lost_experts_are_missing_and_do_not_end_the_run(
    resolve: Resolve, host: PluginHost, tmp_path: Path, caplog: pytest.LogCaptureFixture, experts: int
) -> None:
    known = rl_alone(
        *(resolve, host, tmp_path / "run", "runs.small.rl.max_infra_failures=0", f"envs.two-step.experts={experts}")
    )
    assert lost_experts() == [2.0 - experts, 2.0, 2.0, 2.0, 2.0]
    rolled = [each for each in known.values() if each.header.source == "policy"]
    assert len(rolled) == 30
    assert sum(each.header.anchor is not None for each in rolled) == 3 * experts
    message = "1-rl step 4: 2 of 2 rollouts for experts failed for reasons of infrastructure"
    assert any(message in each.getMessage() and "no more experts" in each.getMessage() for each in caplog.records)


def test_a_lost_expert_leaves_the_old_one(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    overrides = ("runs.small.rl.pool=2", "runs.small.rl.experts.refresh_every=1", "envs.two-step.experts=2")
    known = rl_alone(resolve, host, tmp_path / "run", *overrides)
    assert lost_experts() == [0.0, 2.0, 2.0, 2.0, 2.0]
    anchors = [each.header.anchor for each in known.values() if each.header.source == "policy"]
    assert {None if each is None else each.expert for each in anchors} == {"1-rl/0/expert-0", "1-rl/0/expert-1"}


def test_the_policys_own_successes_become_its_experts(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    known = rl_alone(
        resolve,
        host,
        tmp_path / "run",
        "runs.small.rl.pool=4",
        "runs.small.rl.experts={source='self', attempts=0, refresh_every=0}",
    )
    anchored = [each for each in known.values() if each.header.anchor is not None]
    assert anchored
    for each in anchored:
        assert each.header.anchor is not None
        expert = known[each.header.anchor.expert]
        assert expert.success
        assert expert.header.source == "policy"
        assert expert.header.anchor is None
        assert expert.header.task == each.header.task
        assert int(expert.id.split("/")[1]) < int(each.id.split("/")[1]), "from an earlier step"
        assert each.chunks[0].replayed
        assert not each.chunks[0].trainable


def test_tasks_without_a_success_get_extra_attempts_that_are_never_trained(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    known = rl_alone(resolve, host, tmp_path / "run", "runs.small.rl.experts={source='self', attempts=2}")
    extra = [each for each in known if "expert" in each]
    assert len(extra) == 5 * 2 * 2
    used = {each for step in StageJournal(tmp_path / "run/stages/1-rl").used() for each in step.trajectories}
    assert not used & set(extra)
    anchors = {each.header.anchor.expert for each in known.values() if each.header.anchor is not None}
    assert anchors
    assert anchors <= set(extra), "new tasks have no other experts than those of the step"


def test_a_teacher_of_its_own_weights_gives_experts_that_rl_cannot_train(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    known = rl_alone(
        resolve,
        host,
        tmp_path / "run",
        "runs.small.rl.experts={source='teacher', teacher={inference={use='fake/scripted', always=true}}}",
    )
    taught = [each for each in known.values() if each.header.source == "teacher"]
    assert len(taught) == 10
    assert all(each.success for each in taught), "the policy alone solves only every second task"
    assert not any(chunk.trainable or chunk.sampled for each in taught for chunk in each.chunks)
    assert sum(each.header.anchor is not None for each in known.values()) == 30


def test_a_teacher_with_another_tokenizer_is_refused(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    other = "{use='fake/scripted', tokenizer='words'}"
    with pytest.raises(RunError, match=r"tokenizer \(words\) is not the policy's \(characters\)"):
        rl_alone(
            resolve,
            host,
            tmp_path / "run",
            f"runs.small.rl.experts={{source='teacher', teacher={{inference={other}}}}}",
        )


def test_a_teachers_model_is_prepared_once_in_a_folder_of_its_own(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    rl_alone(resolve, host, tmp_path / "run", "runs.small.rl.experts={source='teacher', teacher={model='fake/none'}}")
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert Path(state["teacher"]) == tmp_path / "run/teacher"
    assert (tmp_path / "run/teacher/texts.json").is_file()
    assert (tmp_path / "run/model/texts.json").is_file()


def test_a_run_without_rl_starts_no_teacher(resolve: Resolve, host: PluginHost, tmp_path: Path) -> None:
    resolved = resolve(
        "runs.small.stages=['eval']",
        "runs.small.rl.experts={source='teacher', teacher={inference={use='fake/scripted', tokenizer='words'}}}",
    )
    assert start_run(resolved, tmp_path / "run", host)["stages"]
