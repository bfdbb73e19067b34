"""What a run resolves to."""

import dataclasses
import json

import pytest

from tumbler.contracts.agent import Limits
from tumbler.contracts.inference import Sampling
from tumbler.errors import RegistryError
from tumbler.registry import ResolvedRun, load_registry, load_resolved, resolve_run, run_from_json, version_drift
from tumbler.registry.model import LimitsTable, SamplingTable


def test_a_run_is_resolved_with_every_default_written_out(resolve):
    run = resolve("smoke")
    assert (run.name, run.seed, run.stages) == ("smoke", 3, ("sft", "eval", "rl", "eval"))
    assert (run.env.label, run.env.id, run.env.plugin) == ("path", "trail", "bench")
    assert run.env.settings == {"size": 7, "words": ["north", "south"], "shortest": 1}
    assert run.algorithm.settings == {"gamma": 0.9, "clip": 0.1, "mode": "chunk"}
    assert run.limits == Limits(turns=8)
    assert run.sampling == Sampling()
    assert (run.sft.demonstrations, run.rl.attempts, run.eval.split) == (1024, 3, "held-out")
    assert run.sft.env == run.rl.env == run.env
    assert run.eval.envs == (run.env,)


def test_the_context_pipeline_comes_from_the_agents_table_in_order(resolve):
    run = resolve("smoke")
    assert [each.id for each in run.context] == ["none", "summary"]
    assert run.context[1].settings == {"threshold": 0.5}
    assert run.agent.settings == {"prompt": None}


def test_a_bare_id_stands_for_the_component_with_its_defaults(resolve):
    run = resolve("smoke")
    assert run.model.label == run.model.id == "folder"
    assert run.backends["inference"].settings == {"cache": "cache", "batch": 8}


def test_a_third_partys_component_carries_its_distribution_and_version(resolve):
    cloud = resolve("smoke").backends["sandbox"]
    assert (cloud.label, cloud.id, cloud.plugin) == ("cloud", "shop/cloud", "shop")
    assert (cloud.distribution, cloud.version) == ("tumbler-shop", "0.4.1")


def test_a_table_of_the_file_comes_before_a_component_of_the_same_name(resolve, valid):
    text = valid + '\n[envs.trail]\nuse = "shop/maze"\nsize = 9\n'
    assert resolve("smoke", 'runs.smoke.env="trail"', text=text).env.id == "shop/maze"


def test_an_inline_table_of_the_same_component_merges_with_the_extended_runs_table(resolve):
    run = resolve("long")
    assert run.algorithm.label == "mine"
    assert run.algorithm.settings == {"gamma": 0.99, "clip": 0.1, "mode": "chunk"}


def test_an_inline_table_without_use_inherits_the_component(resolve):
    run = resolve("long", "runs.long.algorithm={ gamma = 0.5 }")
    assert (run.algorithm.id, run.algorithm.settings["gamma"], run.algorithm.settings["clip"]) == ("ipa", 0.5, 0.1)


def test_an_inline_table_of_another_component_starts_from_its_own_defaults(resolve):
    run = resolve("long", 'runs.long.env={ use = "shop/maze", size = 4 }')
    assert run.env.settings == {"size": 4, "theme": "stone"}
    assert run.env.label == "shop/maze"


def test_an_extending_run_merges_tables_and_replaces_lists(resolve):
    run = resolve("long")
    assert run.stages == ("rl", "eval")
    assert run.limits == Limits(turns=8, seconds=60)
    assert (run.rl.steps, run.rl.checkpoint_every) == (100, 5)
    assert (run.seed, run.description) == (3, "Longer.")
    assert [env.label for env in run.eval.envs] == ["path", "maze"]


def test_different_environments_never_share_a_label(resolve):
    run = resolve("long", "runs.long.env={ size = 4 }", 'runs.long.sft.env={ use = "trail", size = 9 }')
    assert run.env.label == "path"
    assert [env.label for env in run.eval.envs] == ["path-2", "maze"]
    assert run.eval.envs[0].settings["size"] == 7
    assert run.sft.env.label == "trail"


def test_the_settings_hash_depends_on_the_settings_alone(resolve):
    first, again, other = resolve("smoke"), resolve("smoke"), resolve("smoke", "envs.path.size=8")
    assert first.env.settings_hash == again.env.settings_hash
    assert first.env.settings_hash != other.env.settings_hash
    assert len(first.env.settings_hash) == 12
    assert int(first.env.settings_hash, 16) >= 0


def test_an_unknown_run_is_refused_with_a_suggestion(resolve):
    with pytest.raises(RegistryError, match=r"runs\.smok: there is no such run; did you mean 'smoke'\?"):
        resolve("smok")


def test_all_problems_of_a_run_are_in_one_error(resolve):
    with pytest.raises(RegistryError) as caught:
        resolve("smoke", "envs.path.size=1", "algorithms.mine.gama=1", 'runs.smoke.backends.training="engine"')
    assert {problem.path for problem in caught.value.problems} == {
        "envs.path.size",
        "algorithms.mine.gama",
        "runs.smoke.backends.training",
    }
    assert len(str(caught.value).splitlines()) == 3


def test_the_problems_of_one_run_do_not_stop_another(resolve):
    assert resolve("smoke", 'runs.long.env="nowhere"').name == "smoke"


def test_a_resolved_run_survives_json(resolve):
    run = resolve("long")
    text = json.dumps(run.to_json())
    assert run_from_json(json.loads(text)) == run


def test_a_resolved_run_is_frozen_and_keyword_only(resolve):
    run = resolve("smoke")
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 1
    with pytest.raises(TypeError):
        ResolvedRun("smoke")


def test_a_run_json_can_be_loaded_again(resolve, tmp_path):
    run = resolve("smoke")
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run.to_json()))
    assert load_resolved(path) == run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"run\.json: there is no such file; name the run\.json"),
        ("{", r"run\.json: not JSON: .*; restore the file"),
        ("[]", r"run\.json: not a resolved run; name the run\.json"),
        ("{}", r"run\.json: seed: missing; add the key 'seed'"),
    ],
)
def test_an_unusable_run_json_is_refused_with_what_to_do(tmp_path, content, message):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RegistryError, match=message):
        load_resolved(path)


def test_every_problem_of_a_run_json_is_named_by_its_path(resolve):
    value = resolve("smoke").to_json()
    value["schema"] = 2
    value["limits"]["turns"] = "many"
    value["env"]["colour"] = "red"
    with pytest.raises(RegistryError) as caught:
        run_from_json(value, file="old/run.json")
    assert {problem.path for problem in caught.value.problems} == {"schema", "limits.turns", "env.colour"}
    assert all(problem.file == "old/run.json" for problem in caught.value.problems)


def test_versions_that_changed_are_warned_of(resolve, host):
    run = resolve("smoke")
    assert version_drift(run, host) == []
    older = dataclasses.replace(run, versions={"bench": ("tumbler", "8.0"), "gone": ("tumbler-gone", "1.0")})
    assert version_drift(older, host) == [
        "plugin 'bench' was tumbler 8.0 and is tumbler 9.9 now",
        "plugin 'gone' was tumbler-gone 1.0 and is not loaded now",
    ]


def test_the_limits_and_sampling_tables_have_the_contracts_fields_and_defaults():
    assert LimitsTable().model_dump() == dataclasses.asdict(Limits())
    assert SamplingTable().model_dump() == dataclasses.asdict(Sampling())


def test_a_missing_extra_does_not_stop_resolving(resolve):
    assert resolve("smoke").backends["training"].id == "optimizer"


def test_a_disabled_plugin_is_named_when_it_is_used(write, valid, new_host):
    registry = load_registry(write(valid))
    with pytest.raises(RegistryError, match=r"'shop' \(tumbler-shop 0\.4\.1\) is disabled; take 'shop' out of"):
        resolve_run(registry, "smoke", new_host(disable=["shop"]))
