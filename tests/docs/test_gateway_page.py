"""The page about the gateway: its commands parse, its code runs, and what it says of the code is so."""

import re
import shlex
from pathlib import Path

import pytest

from tumbler.cli.main import _parser
from tumbler.contracts.agent import Limits
from tumbler.contracts.environment import Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.testing.fakes import ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Component
from tumbler.trajectory.record import CAUSES
from tumbler_backends.gateway.gateway import HttpGateway
from tumbler_backends.gateway.settings import GatewaySettings

PAGE = Path(__file__).parents[2] / "docs/gateway.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMPONENT = Component(id="test", version="0", settings_hash="0")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("line", [line for source in blocks("sh") for line in source.splitlines()])
def test_a_command_has_the_options_that_the_page_gives_it(line):
    program, *words = shlex.split(line)
    assert program == "tumbler"
    parsed = _parser(words)[0].parse_args(words)
    assert str(parsed.folder) in ("sessions", "again")


async def test_the_agent_of_the_page_speaks_to_its_policy(capsys, monkeypatch):
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    (source,) = blocks("python")
    names: dict = {}
    exec(compile(source, str(PAGE), "exec"), names)
    inference = ScriptedInference(lambda prompt: "the word")
    gateway = HttpGateway(GatewaySettings())
    parts = EpisodeParts(
        environments={"e": NamedEnvironment(build=lambda: TwoStepEnvironment(TwoStepSettings()), component=COMPONENT)},
        agent=names["Program"](),
        agent_component=COMPONENT,
        strategies=[],
        strategy_components=(),
        tokenizer=inference.tokenizer,
        inference=inference,
        sandboxes=None,
        limits=Limits(seconds=30),
        gateway=gateway,
    )
    task, sampling = Task(id="t", instruction="Say it."), Sampling(max_tokens=32)
    await gateway.start()
    try:
        trajectory = await LocalEpisodeRunner(parts)(
            RolloutRequest(id="r", task=task, seed=0, group="g", sampling=sampling, env="e")
        )
    finally:
        await gateway.close()
    assert capsys.readouterr().out == "the word\n"
    assert (trajectory.status, [chunk.text for chunk in trajectory.chunks]) == ("completed", ["the word"])


def test_the_causes_and_settings_that_the_page_names_exist():
    causes = set(re.findall(r"the cause `([\w-]+)`", TEXT))
    assert causes == {"drift", "tools", "rewrite"}
    assert causes <= set(CAUSES)
    settings = set(re.findall(r"`(\w+) = \w+`", TEXT)) | set(re.findall(r"gateway\.(\w+)=", TEXT))
    assert settings == {"client_temperature", "dialect"}
    assert settings <= set(GatewaySettings.model_fields)


def test_every_link_of_the_page_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (PAGE.parent / target).exists(), target
