"""The commands `tumbler check` and `tumbler schema`, in processes of their own that cannot import torch."""

import json
import os
import re
import subprocess
import sys

import pytest

NO_HEAVY_IMPORTS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "accelerate"}:
            raise ImportError(f"{name} must not be imported here")

sys.meta_path.insert(0, Refuse())
"""

TEN_MISTAKES = """
schema = 2

[plugins]
require = ["tumbler-absent>=1"]

[envs.path]
use = "trial"

[envs.maze]
use = "shop/maze"
size = "big"

[agents.coder]
use = "react"
promt = "Hello"

[algorithms.ipa]
use = "ipa"
gamma = 1.5

[backends.cloud]
use = "shop/cloud"
api_key = "hunter2"

[backends.gone]
use = "broken/box"

[runs.smoke]
env = "maze"
agent = "coder"
algoritm = "ipa"
backends = { inference = "local", execution = "local" }
stages = ["rl"]

[runs.long]
extends = "smok"
"""

EXPECTED = {
    "schema": "schema = 1",
    "plugins.require": "pip install",
    "envs.path.use": "did you mean 'trail'?",
    "envs.maze.size": "valid integer",
    "agents.coder.promt": "did you mean 'prompt'?",
    "algorithms.ipa.gamma": "less than or equal to 1",
    "backends.cloud.api_key": '{ env = "NAME" }',
    "backends.gone.use": "the flux capacitor is missing",
    "runs.smoke.algoritm": "did you mean 'algorithm'?",
    "runs.smoke.backends.inference": "name one that does: engine",
    "runs.smoke.stages": "add ",
    "runs.long.extends": "did you mean 'smoke'?",
}


@pytest.fixture
def tumbler(site, tmp_path):
    """Run a command where only the site folder's plugins are installed and torch cannot be imported."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(NO_HEAVY_IMPORTS)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "tumbler.cli.main", *arguments],
            env={**os.environ, "PYTHONPATH": f"{blocked}{os.pathsep}{site}", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_ten_mistakes_are_all_found_with_file_path_and_remedy(tumbler, write):
    done = tumbler("check", write(TEN_MISTAKES).name)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    for path, remedy in EXPECTED.items():
        own = [line for line in lines if re.match(rf"registry\.toml:?\d*: {re.escape(path)}: .+; .+", line)]
        assert own, f"{path} is not in:\n{done.stdout}"
        assert any(remedy in line for line in own), own
    assert {re.match(r"registry\.toml:?\d*: ([^:]+): ", line)[1] for line in lines} == set(EXPECTED)
    assert "hunter2" not in done.stdout


def test_a_valid_file_is_ok_though_a_package_is_not_installed(tumbler, write, valid):
    write(valid)
    done = tumbler("check")
    assert (done.returncode, done.stderr) == (0, "")
    note, ok = done.stdout.splitlines()
    assert note.startswith("note: registry.toml:30: runs.smoke.backends.training: ")
    assert ok == "ok: registry.toml: runs smoke, long"


def test_a_run_that_is_named_must_have_its_packages(tumbler, write, valid):
    write(valid)
    done = tumbler("check", "--run", "smoke")
    assert done.returncode == 1
    assert "install with: pip install 'tumbler[absent]'" in done.stdout
    other = tumbler("check", "--run", "smoke", "--set", "runs.smoke.stages=['eval']", "--set", "runs.smoke.sed=1")
    assert "--set: runs.smoke.sed: unknown key; did you mean 'seed'?" in other.stdout


def test_an_unknown_run_is_named(tumbler, write, valid):
    write(valid)
    done = tumbler("check", "--run", "smok")
    assert done.returncode == 1
    assert "there is no such run; did you mean 'smoke'?" in done.stdout


def test_problems_are_printed_as_json_too(tumbler, write):
    write("schema = 1\n[runs.a]\nsede = 1\n")
    done = tumbler("check", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert {
        "file": "registry.toml",
        "path": "runs.a.sede",
        "message": "unknown key",
        "remedy": "did you mean 'seed'?",
        "line": 3,
        "severity": "error",
    } in report["problems"]


def test_a_file_that_does_not_exist_is_said(tumbler):
    done = tumbler("check", "absent.toml")
    assert (done.returncode, done.stdout) == (1, "absent.toml: there is no such file; name an existing registry file\n")


def test_the_schema_is_printed_or_written(tumbler, tmp_path):
    printed = tumbler("schema")
    assert (printed.returncode, printed.stderr) == (0, "")
    written = tumbler("schema", "--output", "schema.json")
    assert written.stdout == "wrote schema.json\n"
    assert json.loads((tmp_path / "schema.json").read_text()) == json.loads(printed.stdout)
    assert "environment.shop.maze" in json.loads(printed.stdout)["$defs"]


def test_help_does_not_import_pydantic(tumbler):
    script = "import sys, tumbler.cli.check, tumbler.cli.schema; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
