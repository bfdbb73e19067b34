"""The settings of programs are checked before anything runs."""

import pytest
from pydantic import ValidationError

from tumbler_agents.process.filling import fill
from tumbler_agents.process.packages.settings import PackageSettings
from tumbler_agents.process.settings import ProcessSettings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"launch": ("agent", "{promt}")}, "did you mean {prompt}"),
        ({"launch": ()}, "launch is empty"),
        ({"launch": " "}, "launch is empty"),
        ({"launch": "agent", "env": {"A": "{prompt}"}}, "stands for nothing"),
        ({"launch": "agent", "files": {"../x": ""}}, "does not lie below"),
        ({"launch": "agent", "files": {"/etc/x": ""}}, "does not lie below"),
        ({"launch": "agent", "files": {"prompt.txt": ""}}, "holds the prompt"),
        ({"launch": "agent", "files": {"a": "{instruction}"}}, "stands for nothing"),
        ({"launch": "agent", "prompt": "{task}"}, "stands for nothing"),
        ({"launch": "agent", "api": "telnet"}, "messages"),
    ],
)
def test_what_cannot_work_is_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        ProcessSettings(**settings)


@pytest.mark.parametrize(
    "packages",
    [
        {"pip": ("mini-swe-agent",)},
        {"pip": ("mini-swe-agent>=2",)},
        {"pip": ("--index-url=http://x==1",)},
        {"pip": ("x @ http://x==1",)},
        {"npm": ("@qwen-code/qwen-code",)},
        {"npm": ("@qwen-code/qwen-code@latest",)},
        {"npm": ("--registry=x@1",)},
        {"npm": ("../folder@1",)},
        {"node": "lts"},
        {"target": "opt"},
    ],
)
def test_packages_are_names_with_a_version_and_never_options(packages):
    with pytest.raises(ValidationError):
        PackageSettings(**packages)


def test_a_value_is_never_taken_for_a_place():
    assert fill("{a} {b} {c}", {"a": "{b}", "b": "2"}) == "{b} 2 {c}"
