"""Programs are told how long the model's context is, where somebody knows it."""

import json

import pytest

from tumbler.contracts.gateway import Endpoint
from tumbler_agents.process.agent import ProcessAgent
from tumbler_agents.process.launching import Asked
from tumbler_agents.process.qwen_code.agent import QwenCodeAgent
from tumbler_agents.process.qwen_code.settings import QwenCodeSettings
from tumbler_agents.process.settings import ProcessSettings


def asked(context_length):
    endpoint = Endpoint(url="http://127.0.0.1:4000", secret="s", context_length=context_length)
    return Asked(endpoint=endpoint, prompt="Go.", turns=3, folder="/tmp/agent")


@pytest.mark.parametrize(("length", "told"), [(4096, "4096"), (None, "")])
def test_it_stands_in_words_variables_and_files(length, told):
    words = ProcessSettings(
        launch=("run", "--window={context_length}"),
        env={"WINDOW": "{context_length}"},
        files={"my.json": "[{context_length}]"},
    )
    launch = ProcessAgent(words).plan(asked(length))
    assert (launch.command[1], launch.env["WINDOW"], launch.files["my.json"]) == (f"--window={told}", told, f"[{told}]")
    assert ProcessAgent(ProcessSettings(launch="run")).plan(asked(length)).env["TUMBLER_CONTEXT_LENGTH"] == told


@pytest.mark.parametrize(("given", "length", "told"), [(None, 4096, 4096), (9000, 4096, 9000), (None, None, 32_768)])
def test_qwen_code_compacts_by_the_models_own_context_unless_another_is_set(given, length, told):
    launch = QwenCodeAgent(QwenCodeSettings(context_window=given)).plan(asked(length))
    configuration = json.loads(launch.files["settings.json"])
    assert configuration["model"]["generationConfig"]["contextWindowSize"] == told
