"""Which agent converses: defaults, tables of the registry, and what a run has trained."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tumbler.cli.agents.choosing import choose, of_run, trained
from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.conversation import ConversingAgent
from tumbler.errors import ContractError, RegistryError, RunError
from tumbler.plugins import PluginHost
from tumbler.registry import load_registry, resolve_run
from tumbler.testing.samples import sample_trajectory
from tumbler.trajectory import trajectory_to_json

REGISTRY = """
schema = 1

[agents.coder]
use = "iflow"
todo = false
context = ["truncate-output", { use = "summary", keep_last = 2 }]

[agents.bare]
use = "iflow"
context = []

[runs.small]
env = "trail"
agent = "coder"
model = "tiny"
backends = { sandbox = "bubblewrap", inference = "transformers", training = "torch", execution = "local" }
stages = ["sft"]
"""


CONTEXT = 'context=["summary"]'


@pytest.fixture(scope="module")
def host():
    return PluginHost.load(allow=["tumbler"])


@pytest.fixture
def shelf(host, tmp_path):
    (tmp_path / "registry.toml").write_text(REGISTRY)
    return Shelf(host=host, registry=load_registry(tmp_path / "registry.toml"))


@pytest.fixture
def own(shelf, host):
    return of_run(resolve_run(shelf.registry, "small", host))


def test_without_a_name_an_agent_that_converses_has_a_strategy_that_makes_room(host):
    chosen = choose(Shelf(host=host), None, [])
    assert isinstance(chosen.build_agent(host), ConversingAgent)
    (strategy,) = chosen.build_context(host)
    assert strategy.strategy.caps.bounded


def test_without_a_name_no_table_that_is_called_like_the_default_is_taken(host, tmp_path):
    table = '[agents.iflow]\nuse = "iflow"\nhooks = [{ event = "stop", command = "true", where = "host" }]'
    (tmp_path / "registry.toml").write_text(f"schema = 1\n{table}\n")
    shelf = Shelf(host=host, registry=load_registry(tmp_path / "registry.toml"))
    assert choose(shelf, None, [CONTEXT]).agent.settings["hooks"] == []
    assert len(choose(shelf, "iflow", [CONTEXT]).agent.settings["hooks"]) == 1


def test_context_strategies_may_be_named_as_a_setting(host):
    assert [each.id for each in choose(Shelf(host=host), None, ['context=["window"]']).context] == ["window"]


def test_a_name_that_is_no_agent_may_be_a_table_of_a_registry_that_was_not_read(host):
    with pytest.raises(RegistryError, match=r"\[agents\], say which registry has it: --registry"):
        choose(Shelf(host=host), "coder", [CONTEXT])


def test_a_table_brings_its_settings_and_strategies(shelf):
    chosen = choose(shelf, "coder", [])
    assert chosen.agent.settings["todo"] is False
    assert [each.id for each in chosen.context] == ["truncate-output", "summary"]
    assert choose(shelf, "bare", []).context == ()


def test_settings_may_be_given_over_those_of_the_table(shelf):
    chosen = choose(shelf, "coder", ["todo=true", "sub_agents.depth=0"])
    assert chosen.agent.settings["todo"] is True and chosen.agent.settings["sub_agents"]["depth"] == 0
    assert len(chosen.context) == 2


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [("iflw", [], "'iflow'"), ("iflow", ["todoo=true"], "'todo'"), ("coder", ["plan=7"], "plan")],
)
def test_mistakes_are_named_with_what_was_meant(shelf, name, overrides, told):
    with pytest.raises(RegistryError, match=told):
        choose(shelf, name, overrides)


def test_an_agent_that_works_in_episodes_alone_cannot_converse(host):
    with pytest.raises(ContractError, match="no `converse`"):
        choose(Shelf(host=host), "react", [CONTEXT]).build_agent(host)


def test_a_runs_own_agent_is_the_trained_one(own, tmp_path):
    assert trained(tmp_path, own, None, anyway=False) == []
    assert trained(tmp_path, own, own, anyway=False) == []


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [
        ("coder", ["todo=true"], "agent iflow: todo is True, and was False"),
        ("bare", [], "the context strategies are none, and were truncate-output"),
        ("react", [CONTEXT], "the agent is react"),
    ],
)
def test_another_one_is_refused_unless_it_is_wanted_anyway(shelf, own, tmp_path, name, overrides, told):
    other = choose(shelf, name, overrides)
    with pytest.raises(RunError, match=told):
        trained(tmp_path, own, other, anyway=False)
    assert any(told in each for each in trained(tmp_path, own, other, anyway=True))


def test_other_settings_of_a_strategy_are_told_by_their_names(own, tmp_path):
    changed = replace(own.context[1], settings={**own.context[1].settings, "keep_last": 9})
    other = replace(own, context=(own.context[0], changed))
    assert trained(tmp_path, own, other, anyway=True) == ["context strategy summary: keep_last is 9, and was 2"]


def test_what_the_trajectories_were_rolled_out_with_counts(own, tmp_path: Path):
    agent, *context = own.components
    header = replace(sample_trajectory().header, agent=agent, context=tuple(context))
    file = tmp_path / "stages/1-sft/trajectories.jsonl"
    file.parent.mkdir(parents=True)

    def write(header):
        file.write_text(json.dumps(trajectory_to_json(replace(sample_trajectory(), header=header))) + "\n")

    write(header)
    assert trained(tmp_path, own, None, anyway=False) == []
    write(replace(header, agent=replace(agent, settings_hash="other")))
    with pytest.raises(RunError, match="stage 1-sft was rolled out with iflow"):
        trained(tmp_path, own, None, anyway=False)
