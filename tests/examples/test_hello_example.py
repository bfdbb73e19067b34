"""The example is installed by pip into a fresh environment and used through its entry point alone."""

import json

import pytest


def test_its_plugin_is_listed(fresh_venv, hello):
    record = json.loads(fresh_venv.tumbler("plugins", "--json", "--check", cwd=hello))
    (plugin,) = [each for each in record["plugins"] if each["name"] == "hello"]
    assert (plugin["distribution"], plugin["status"]) == ("tumbler-hello", "ok")
    assert {each["id"] for each in plugin["components"]} == {
        "hello/guess",
        "hello/best-of",
        "hello/keep-last",
        "hello/sequential",
    }


def test_its_registry_has_no_problem(fresh_venv, hello):
    assert fresh_venv.tumbler("check", "--run", "hello", cwd=hello).startswith("ok: ")


@pytest.mark.slow
def test_its_run_uses_all_of_its_components(fresh_venv, hello):
    fresh_venv.tumbler("run", "hello", "--folder", "runs/hello", cwd=hello)
    resolved = json.loads((hello / "runs/hello/run.json").read_text())
    used = [resolved["env"], resolved["algorithm"], *resolved["context"], resolved["backends"]["execution"]]
    assert [each["id"] for each in used] == ["hello/guess", "hello/best-of", "hello/keep-last", "hello/sequential"]
    results = json.loads((hello / "runs/hello/results.json").read_text())
    assert [each["kind"] for each in results["stages"]] == ["sft", "rl", "eval"]
    assert results["optimizer_steps"] >= 20


@pytest.mark.slow
def test_its_own_tests_pass(fresh_venv, hello):
    assert " passed" in fresh_venv.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=hello)


@pytest.mark.slow
def test_it_type_checks_from_its_own_folder(fresh_venv, hello):
    assert "Success" in fresh_venv.python("-m", "mypy", cwd=hello)
