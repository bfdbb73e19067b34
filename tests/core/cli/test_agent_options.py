"""The options of `tumbler agent`: what excludes what, what is taken over from before, and what is said of mistakes."""

import argparse
import io
import json
import sys
from pathlib import Path

import pytest

from tumbler.cli import agent
from tumbler.cli.agents.keeping import About, Shelves
from tumbler.cli.agents.session import _options, _prompt, run_session
from tumbler.errors import RegistryError, RunError, RunFolderError, TumblerError

CONTEXT = 'context=["summary"]'
SERVED = ["--upstream", "http://127.0.0.1:9/v1", "--model", "m"]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    agent.add_arguments(parser)
    return parser.parse_args(list(words))


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [["--context-length", "0"], ["--max-tokens", "x"], ["--yes=no"], ["--turns", "-1"], ["--network", "all"]],
)
def test_wrong_values_are_wrong_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed(*words)
    assert "usage:" in capsys.readouterr().err


def test_one_model_speaks():
    with pytest.raises(RunError, match="--upstream and --model-folder exclude each other"):
        _options(parsed(*SERVED, "--model-folder", "x"), {})
    with pytest.raises(RunError, match="--model-folder and --run exclude each other"):
        _options(parsed("--run", "r", "--model-folder", "x"), {})


def test_without_a_model_the_three_ways_are_listed():
    with pytest.raises(RunError) as caught:
        _options(parsed(), {})
    for option in ("--upstream", "--model-folder", "--run"):
        assert option in str(caught.value)


def test_a_conversation_goes_on_with_the_model_that_it_had():
    before = {"upstream": "http://x/v1", "model": "m", "context_length": 5, "inference": "transformers"}
    options = _options(parsed("--context-length", "9"), before)
    assert (options.upstream, options.model, options.context_length) == ("http://x/v1", "m", 9)
    other = _options(parsed("--model-folder", "x"), before)
    assert (other.upstream, other.model, other.folder) == (None, None, Path("x").resolve())


def test_the_options_are_kept_without_the_key(server_key, state):
    with pytest.raises(RunError, match="is no folder"):
        run_session(parsed(*SERVED, "--api-key-env", server_key, "--set", CONTEXT, "--workdir", "none", "-p", "x"))
    assert _options(parsed(*SERVED, "--api-key-env", server_key), {}).key_variable == server_key


@pytest.fixture
def server_key(monkeypatch) -> str:
    monkeypatch.setenv("SOME_KEY", "sesame")
    return "SOME_KEY"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--json"], "give it with -p"),
        (["-p", "  "], "the message is empty"),
        ([], "standard input is no terminal; give the message with -p"),
    ],
)
def test_a_message_is_needed_where_nobody_types(words, told, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(RunError, match=told):
        _prompt(parsed(*words))


def test_a_message_may_come_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines\n"))
    assert _prompt(parsed("-p", "-")) == "two\nlines"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--upstream", "http://x/v1"], "--model NAME"),
        (["--upstream", "words", "--model", "m"], "neither an address such as"),
        ([*SERVED, "--api-key-env", "NOT_SET"], r"\$NOT_SET, which is not set"),
        (["--model-folder", "none"], "there is no model folder"),
        (["--model-folder", "."], "Hugging Face format: it has no config.json"),
    ],
)
def test_a_model_that_cannot_be_had_is_said_with_what_to_do(words, told, state):
    sandboxes = ["--sandbox-set", f"root={state / 'boxes'}"]
    with pytest.raises(TumblerError, match=told):
        run_session(parsed(*words, *sandboxes, "--set", CONTEXT, "-p", "hello"))


def test_a_conversation_that_is_not_there_is_said_before_anything_starts():
    with pytest.raises(RunFolderError, match="no conversation about"):
        run_session(parsed(*SERVED, "--resume", "-p", "x"))


def test_a_conversation_that_fails_to_go_on_is_let_go_of(state):
    shelves = Shelves.of_user()
    about = About(
        title="x", folder=str(state / "gone"), agent="a", model="m", begun="now", options={"upstream": "http://x"}
    )
    kept = shelves.begin(about)
    kept.saved.write_text(json.dumps({"format": 1}))
    kept.close()
    for _ in range(2):
        with pytest.raises(RunError, match="gone is no folder"):
            run_session(parsed("--resume", kept.name, "--model", "m", "--set", CONTEXT, "-p", "x"))


def test_a_folders_registry_is_not_read_unasked(state):
    (state / "registry.toml").write_text("this is no registry")
    told = ["--set", CONTEXT, "--workdir", "gone", "-p", "x"]
    with pytest.raises(RunError, match="gone is no folder"):
        run_session(parsed(*SERVED, *told))
    with pytest.raises(RegistryError, match=r"registry\.toml"):
        run_session(parsed(*SERVED, *told, "--registry", "registry.toml"))


def test_a_message_in_bytes_that_are_no_text_can_still_be_sent(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 \xc3\xa9"), encoding="utf-8"))
    for said in (_prompt(parsed("-p", "-")), _prompt(parsed("-p", "caf\udce9 \udcc3\udca9"))):
        assert said == "caf\N{REPLACEMENT CHARACTER} é"


@pytest.mark.parametrize("network", ["none", "public"])
def test_a_host_is_not_allowed_beside_a_network_that_knows_no_hosts(network):
    with pytest.raises(RunError, match="leave one out"):
        run_session(parsed(*SERVED, "--set", CONTEXT, "--network", network, "--allow", "pypi.org", "-p", "x"))


def test_a_wrong_number_is_told_in_words(capsys):
    for words, told in ((["--turns", "x"], "'x' is no whole number"), (["--temperature", "nan"], "'nan' is no number")):
        with pytest.raises(SystemExit):
            parsed(*words)
        assert told in capsys.readouterr().err
