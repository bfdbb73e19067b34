"""`tumbler gateway` as people use it: a process that serves a model to clients, and keeps what they said."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import anthropic
import httpx2
import openai
import pytest

from tumbler.trajectory import trajectory_from_json, verify_trajectory
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel

COMMAND = [sys.executable, "-m", "tumbler.cli.main", "gateway"]
KEY = "the upstream's key"


class Upstream(BaseHTTPRequestHandler):
    """Answers with what it was last told, and who asked for what."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        words = f"{self.headers['authorization']}, {body['model']}: {body['messages'][-1]['content']}"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": words}}
        answer = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


class Served:
    """A running command, and what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.printed = []
        for line in process.stdout:
            self.printed.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break

    def session(self, name: str) -> dict[str, str]:
        """Return the variables that are printed for a session."""
        start = next(index for index, line in enumerate(self.printed) if line.startswith(f"session {name}, "))
        words = [word for line in self.printed[start + 1 : start + 3] for word in shlex.split(line)[1:]]
        return dict(word.split("=", 1) for word in words)

    def say(self, name: str, *words: str) -> list[str]:
        """Say something by one API, and the rest by another, as the SDKs do with these variables."""
        env = self.session(name)
        with openai.OpenAI(
            base_url=env["OPENAI_BASE_URL"], api_key=env["OPENAI_API_KEY"], http_client=httpx2.Client(trust_env=False)
        ) as client:
            first = client.chat.completions.create(model="any", messages=[{"role": "user", "content": words[0]}])
        answers = [first.choices[0].message.content or ""]
        with anthropic.Anthropic(
            base_url=env["ANTHROPIC_BASE_URL"],
            auth_token=env["ANTHROPIC_AUTH_TOKEN"],
            http_client=httpx2.Client(trust_env=False),
        ) as other:
            for each in words[1:]:
                message = {"role": "user", "content": each}
                said = other.messages.create(model="any", max_tokens=9, messages=[message])
                answers.append("".join(block.text for block in said.content if block.type == "text"))
        return answers

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, *words: str, **variables: str) -> Iterator[Served]:
    """Run the command until the block ends."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "UPSTREAM_KEY": KEY, **variables}
    with subprocess.Popen(
        [*COMMAND, "--folder", "kept", "--port", "0", *words], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Served(process)
        finally:
            if process.poll() is None:
                process.kill()


def calls(folder: Path, name: str) -> list[dict]:
    text = (folder / f"kept/{name}.calls.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_model_answers_every_session_and_its_calls_are_kept(upstream, tmp_path, number):
    options = ["--upstream", upstream, "--model", "big", "--api-key-env", "UPSTREAM_KEY"]
    with serving(tmp_path, *options, "--session", "one", "--session", "two") as served:
        assert served.say("one", "hello", "again") == [f"Bearer {KEY}, big: {words}" for words in ("hello", "again")]
        assert served.say("two", "other") == [f"Bearer {KEY}, big: other"]
        assert served.session("one")["OPENAI_API_KEY"] != served.session("two")["OPENAI_API_KEY"]
        match = re.fullmatch(r"serving big at (http://127\.0\.0\.1:\d+) and (/.*gateway\.sock)", served.printed[0])
        assert match is not None
        socket = Path(match[2])
        assert socket.exists()
        assert served.stop(number) == 0
    assert not socket.exists()
    assert [line["body"]["messages"][0]["content"] for line in calls(tmp_path, "one")] == ["hello", "again"]
    assert [line["session"] for line in calls(tmp_path, "two")] == ["two"]
    assert KEY not in json.dumps(calls(tmp_path, "one")[0]["body"])


def test_nothing_that_was_answered_is_lost_with_the_process(upstream, tmp_path):
    with serving(tmp_path, "--upstream", upstream, "--model", "big") as served:
        answers = served.say("main", "one", "two", "three")
        served.stop(signal.SIGKILL)
    assert [line["reply"]["content"] for line in calls(tmp_path, "main")] == answers


def test_what_was_recorded_is_replayed_without_the_server(upstream, tmp_path):
    with serving(tmp_path, "--upstream", upstream, "--model", "big", "--record", "calls.jsonl") as served:
        answers = served.say("main", "one", "two")
        assert served.stop(signal.SIGTERM) == 0
    nowhere = ["--upstream", "http://127.0.0.1:9/v1", "--model", "big", "--session", "later"]
    with serving(tmp_path, *nowhere, "--replay", "calls.jsonl") as served:
        assert served.say("later", "one", "two") == answers
        assert served.stop(signal.SIGTERM) == 0


def test_sessions_are_opened_over_http_with_the_secret_of_a_variable(upstream, tmp_path):
    options = ["--upstream", upstream, "--model", "big", "--admin-env", "ADMIN", "--set", "gateway.unix_socket=false"]
    with serving(tmp_path, *options, ADMIN="open sesame") as served:
        url = served.session("main")["ANTHROPIC_BASE_URL"]
        assert served.printed[0] == f"serving big at {url}"
        with httpx2.Client(trust_env=False, headers={"authorization": "Bearer open sesame"}) as client:
            assert client.post(f"{url}/sessions", json={"name": "more"}).status_code == 201
            assert client.get(f"{url}/sessions").json() == {"sessions": ["main", "more"]}
        assert served.stop(signal.SIGTERM) == 0
    assert (tmp_path / "kept/more.calls.jsonl").exists()


def test_a_model_folders_sessions_are_kept_as_trajectories(tmp_path):
    settings = TinySettings(layers=1, width=32, heads=2, context=512, vocabulary=512)
    model = TinyModel(settings).prepare(tmp_path / "model", texts=["Say a word."], seed=0)
    options = ["--model-folder", str(model), "--max-tokens", "8", "--temperature", "0.5", "--session", "s"]
    with serving(tmp_path, *options, "--set", "gateway.dialect=plain", "--set", "inference.max_batch=2") as served:
        served.say("s", "Say a word.", "And another.")
        assert served.stop(signal.SIGINT) == 0
    trajectory = trajectory_from_json(json.loads((tmp_path / "kept/s.jsonl").read_text()))
    verify_trajectory(trajectory)
    assert (len(trajectory.chunks), trajectory.header.temperature) == (2, 0.5)
    for chunk, line in zip(trajectory.chunks, calls(tmp_path, "s"), strict=True):
        ids = trajectory.segments[chunk.segment].token_ids
        assert tuple(line["reply"]["sampled"]["prompt_ids"]) == ids[: chunk.start]
        assert tuple(line["reply"]["sampled"]["ids"]) == ids[chunk.start : chunk.end]
        assert tuple(line["reply"]["sampled"]["logprobs"]) == chunk.behaviour_logprobs


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--model", "big"], 2, "one of the arguments --upstream --model-folder is required"),
        (["--upstream", "http://x/v1"], 2, "--upstream needs --model"),
        (["--model-folder", "m", "--api-key-env", "UPSTREAM_KEY"], 2, "--api-key-env goes with --upstream"),
        (["--upstream", "http://x/v1", "--model", "m", "--temperature", "1"], 2, "goes with --model-folder"),
        (["--upstream", "x", "--model", "m"], 1, "give one such as http://127.0.0.1:8000/v1"),
        (["--upstream", "http://x/v1", "--model", "m", "--api-key-env", "NONE"], 1, "NONE holds no secret"),
        (["--upstream", "http://x/v1", "--model", "m", "--session", "../x"], 1, "cannot be named '../x'"),
        (["--upstream", "http://x/v1", "--model", "m", "--set", "port=1"], 1, "one of gateway.… or inference.…"),
        (["--upstream", "http://x/v1", "--model", "m", "--set", "gateway.prt=1"], 1, "prt"),
        (["--upstream", "http://x/v1", "--model", "m", "--replay", "none"], 1, "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_told(tmp_path, words, code, said):
    done = subprocess.run(
        [*COMMAND, "--folder", "kept", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert said in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_session_is_not_kept_over_another(upstream, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/main.calls.jsonl").write_text("earlier")
    done = subprocess.run(
        [*COMMAND, "--folder", "kept", "--upstream", upstream, "--model", "m", "--port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "choose another name" in done.stderr
    assert (tmp_path / "kept/main.calls.jsonl").read_text() == "earlier"
