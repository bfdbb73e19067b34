"""What the check finds in registries with mistakes."""

import pytest

from tumbler.errors import RegistryError
from tumbler.registry import check_registry, check_run, load_registry, read_registry


def test_a_valid_registry_has_no_problem(problems_of, valid):
    assert problems_of(valid) == {}


def test_a_problem_is_one_line_of_file_line_path_message_and_remedy(problems_of, valid):
    line = problems_of(valid.replace('algorithm = "mine"', 'algoritm = "mine"'))["runs.smoke.algoritm"]
    assert line.endswith("registry.toml:28: runs.smoke.algoritm: unknown key; did you mean 'algorithm'?")


@pytest.mark.parametrize(
    ("replaced", "by", "path", "words"),
    [
        ("schema = 1", "schema = 2", "schema", "write schema = 1"),
        ("schema = 1", "", "schema", "missing; begin the file with: schema = 1"),
        ("schema = 1", "schema = 1\nrun = {}", "run", "unknown key; did you mean 'runs'"),
        ("size = 7", "size = 7\nsise = 7", "envs.path.sise", "unknown key; did you mean 'size'"),
        ("size = 7", 'size = "7"', "envs.path.size", '"7" is refused; input should be a valid integer'),
        ("size = 7", "size = true", "envs.path.size", "true is refused"),
        ("size = 7", "size = 1", "envs.path.size", "greater than or equal to 2"),
        ("size = 7", "shortest = 9", "envs.path", "the keys do not go together; shortest is more than size"),
        ("size = 7", "words = [1]", "envs.path.words[0]", "valid string"),
        ('use = "trail"', 'use = "trial"', "envs.path.use", "did you mean 'trail'?"),
        ('use = "trail"', "", "envs.path.use", "missing; add the key 'use'"),
        ('use = "trail"', 'use = "react"', "envs.path.use", "there is 'react' as: agent"),
        ('use = "shop/maze"\nsize = 3', 'use = "shop/maze"', "envs.maze.size", "missing; add the key 'size'"),
        ("threshold = 0.5", "treshold = 0.5", "agents.coder.context[1].treshold", "did you mean 'threshold'?"),
        ('context = ["none", ', 'context = ["nine", ', "agents.coder.context[0]", "did you mean 'none'?"),
        (
            '{ env = "SHOP_KEY" }',
            '"abc"',
            "backends.cloud.api_key",
            "refer to an environment variable: api_key = { env",
        ),
        ('env = "path"', "", "runs.smoke.env", "missing; add env = …"),
        ('env = "path"', 'env = "pth"', "runs.smoke.env", "no installed plugin offers the environment 'pth'"),
        ('env = "path"', "env = 3", "runs.smoke.env", "3 is refused; expected the name of a table"),
        ('env = "path"', "env = { size = 4 }", "runs.smoke.env.use", "no component is named; add use = …"),
        ('env = "path"', 'env = "broken/x"', "runs.smoke.env", "(tumbler-broken 0.3) failed to load"),
        ('algorithm = "mine"\nmodel', "model", "runs.smoke.stages", "the stage rl needs an algorithm"),
        ('training = "optimizer", ', "", "runs.smoke.stages", "the stage sft needs training; the run names none"),
        ('training = "optimizer", ', "", "runs.smoke.algorithm", "algorithm ipa needs training; the run names none"),
        ('"optimizer"', '"engine"', "runs.smoke.backends.training", "cannot do training; it does inference"),
        ("training =", "trainig =", "runs.smoke.backends.trainig", "unknown key; did you mean 'training'?"),
        ('stages = ["sft", ', 'stages = ["sftt", ', "runs.smoke.stages[0]", "'sft', 'rl' or 'eval'"),
        ('stages = ["rl", "eval"]', "stages = []", "runs.long.stages", "at least 1 item"),
        ("limits = { turns = 8 }", "limits = { turns = 0 }", "runs.smoke.limits.turns", "greater than or equal to 1"),
        ('extends = "smoke"', 'extends = "smok"', "runs.long.extends", "there is no run 'smok'; did you mean 'smoke'?"),
        ('extends = "smoke"', 'extends = "long"', "runs.long.extends", "the run extends itself"),
        ("seed = 3", 'seed = 3\nextends = "long"', "runs.long.extends", "extends 'long' in turn; extend a run that"),
        ("[envs.path]", '[plugins]\nrequire = ["tumbler-zzz>=2"]\n[envs.path]', "plugins.require", "is not installed"),
        ("[envs.path]", '[plugins]\nrequire = [">>"]\n[envs.path]', "plugins.require", "is not a requirement"),
    ],
)
def test_a_mistake_is_found_at_its_path_with_a_remedy(problems_of, valid, replaced, by, path, words):
    assert replaced in valid
    problems = problems_of(valid.replace(replaced, by, 1))
    assert path in problems
    assert words in problems[path]
    assert "; " in problems[path]


def test_a_mistake_in_a_shared_table_is_told_once(problems_of, valid):
    assert list(problems_of(valid.replace("gamma = 0.9\n", "gamma = 9.0\n"))) == ["algorithms.mine.gamma"]


def test_a_mistake_of_form_brings_no_mistakes_in_its_train(problems_of, valid):
    assert list(problems_of(valid.replace('use = "trail"\n', ""))) == ["envs.path.use"]


def test_a_mistake_in_an_inherited_key_is_told_of_the_run_that_has_it(problems_of, valid):
    problems = problems_of(valid.replace('inference = "engine"', 'inference = "motor"'))
    assert list(problems) == ["runs.smoke.backends.inference"]


def test_settings_of_an_inline_table_are_found_where_they_stand(problems_of, valid):
    problems = problems_of(valid.replace("gamma = 0.99 }", "gamma = 99, clip = 'x' }"))
    assert set(problems) == {"runs.long.algorithm.gamma", "runs.long.algorithm.clip"}


def test_broken_syntax_is_one_problem_with_its_line(write, host):
    registry = read_registry(write("schema = 1\n[envs\n"))
    [problem] = check_registry(registry, host)
    assert problem.line == 2
    assert "not TOML: " in str(problem)
    assert problem == check_run(registry, "smoke", host)[0]


@pytest.mark.parametrize(("name", "words"), [("absent.toml", "there is no such file"), ("", "cannot be read")])
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path, name, words):
    with pytest.raises(RegistryError, match=words):
        load_registry(tmp_path / name)


def test_text_in_another_encoding_is_one_problem(tmp_path):
    (tmp_path / "latin.toml").write_bytes("# caf\xe9".encode("latin-1"))
    with pytest.raises(RegistryError, match="is not UTF-8 text"):
        load_registry(tmp_path / "latin.toml")


def test_loading_refuses_problems_of_form_all_at_once(write, valid):
    text = valid.replace("seed = 3", "sed = 3").replace('extends = "smoke"', "extends = 3")
    with pytest.raises(RegistryError) as caught:
        load_registry(write(text))
    assert {problem.path for problem in caught.value.problems} == {"runs.smoke.sed", "runs.long.extends"}


def test_plugins_that_may_not_load_are_named_where_they_are_used(write, valid, new_host):
    registry = read_registry(write(valid))
    problems = {each.path: str(each) for each in check_registry(registry, new_host(allow=["tumbler"]))}
    assert "'shop' (tumbler-shop 0.4.1) is not allowed" in problems["envs.maze.use"]
    assert "add 'tumbler-shop' to `allow`" in problems["backends.cloud.use"]


def test_a_missing_package_is_told_only_of_runs_that_use_it(write, valid, host):
    problems = check_registry(read_registry(write(valid)), host)
    assert {problem.path for problem in problems} == {"runs.smoke.backends.training"}
    [problem] = problems
    assert problem.severity == "missing-extra"
    assert str(problem).endswith(
        "backend optimizer needs tumbler-nowhere, not installed here; install with: pip install 'tumbler[absent]'"
    )
    text = valid.replace('"optimizer"', '"torch"') + '\n[backends.torch]\nuse = "optimizer"\n'
    used = check_registry(read_registry(write(text)), host)
    assert {problem.path for problem in used} == {"runs.smoke.backends.training"}
    unused = valid[: valid.index("[runs.smoke]")] + '\n[backends.torch]\nuse = "optimizer"\n'
    assert check_registry(read_registry(write(unused)), host) == []


def test_checking_one_run_leaves_other_runs_alone(write, valid, host):
    registry = read_registry(write(valid.replace("gamma = 0.99", "gamma = 99")))
    assert [each.path for each in check_run(registry, "smoke", host)] == ["runs.smoke.backends.training"]
    assert "runs.long.algorithm.gamma" in {each.path for each in check_run(registry, "long", host)}


def test_an_algorithm_that_no_stage_uses_needs_nothing(problems_of, valid):
    text = valid[: valid.index("[runs.long]")]
    text = text.replace('stages = ["sft", "eval", "rl", "eval"]', 'stages = ["eval"]').replace(
        'training = "optimizer", ', ""
    )
    assert problems_of(text) == {}


def test_what_an_environment_needs_must_be_named(problems_of, valid):
    problems = problems_of(valid.replace('sandbox = "cloud", ', ""))
    assert list(problems) == ["runs.long.eval.envs[1]"]
    assert "environment shop/maze needs sandbox; the run names none" in problems["runs.long.eval.envs[1]"]
