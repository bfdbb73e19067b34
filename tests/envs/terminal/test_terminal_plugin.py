"""What the plugin registers, what it imports, and which settings contradict each other."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from tumbler.contracts.environment import Environment, ExpertEnvironment, ResumableEnvironment
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.plugin import tumbler_environments
from tumbler_envs.terminal.settings import TerminalSettings


def test_the_plugin_registers_the_environment():
    (spec,) = tumbler_environments()
    assert (spec.name, spec.config(), spec.load()) == ("terminal", TerminalSettings, TerminalEnvironment)
    environment = spec.load()(spec.config()())
    assert isinstance(environment, Environment)
    assert isinstance(environment, ExpertEnvironment)
    assert isinstance(environment, ResumableEnvironment)


def test_importing_the_plugin_imports_nothing_heavy():
    script = (
        "import sys, tumbler_envs.terminal.plugin; print(*({'pydantic', 'torch', 'transformers'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert output.stdout.split() == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"generate": {"edits": (3, 2)}}, "write \\[2, 3\\]"),
        ({"generate": {"edits": 9}}, "less than or equal to 8"),
        ({"generate": {"kinds": ()}}, "at least 1 item"),
        ({"network": {"mode": "public", "hosts": ("pypi.org",)}}, 'write mode = "allowlist"'),
        ({"workdir": "app"}, "should match pattern"),
        ({"workdir": "/"}, "should match pattern"),
        ({"tools": ()}, "at least 1 item"),
        ({"solved_at": 0.0}, "greater than 0"),
        ({"failure_reward": 0.5}, "less than or equal to 0"),
        ({"held_out_share": 1.5}, "less than or equal to 1"),
        ({"steps": 3}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        TerminalSettings(**settings)
