"""Schemathesis against a real server over bubblewrap: whatever fits the schema, or does not, is no failure of ours."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

TOKEN = "a-token-of-the-tests"


REGISTRY = """\
schema = 1

[backends.front]
use = "sandbox-service"
port = 0
shutdown_seconds = 1

[[backends.front.tenants]]
name = "t"
token = "{token}"
max_sandboxes = 5
ttl = 600
memory_bytes = {memory}

[backends.boxes]
use = "bubblewrap"
root = "{root}"
grace = 0.1
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """Serve bubblewrap from another process: the examples are sent by blocking calls."""
    folder: Path = tmp_path_factory.mktemp("schema")
    root, registry = folder / "sandboxes", folder / "registry.toml"
    registry.write_text(REGISTRY.format(token=TOKEN, memory=256 << 20, root=root))
    words = ["sandbox", "serve", "--backend", "boxes", "--service", "front", "--registry", str(registry)]
    command = [sys.executable, "-m", "tumbler.cli.main", *words]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not list(root.iterdir())


class Ground:
    """A sandbox with a file, a session and two processes, for the examples to meet; made anew when one ends it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._box = "none-yet"

    def sandbox(self) -> str:
        if self._client.get(f"/v1/sandboxes/{self._box}").json().get("state") != "running":
            self._client.delete(f"/v1/sandboxes/{self._box}")
            self._box = self._post("/v1/sandboxes", {"ttl": 600, "files": {"file": "aGk=", "0": "aGk="}})["id"]
            self._post(f"/v1/sandboxes/{self._box}/sessions", {"session_id": "shell"})
            for command in (["cat"], ["true"]):
                spawned = {"exec_id": command[0], "command": command, "stdin": True}
                self._post(f"/v1/sandboxes/{self._box}/processes", spawned)
        return self._box

    def _post(self, path: str, body: dict) -> dict:
        answer = self._client.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def ground(url: str) -> Iterator[Ground]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        yield Ground(client)


EXAMPLES = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


def test_no_request_is_a_failure_of_the_server(url, ground):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    succeeded = set()
    for operation in operations:

        @EXAMPLES
        @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        def check(case):
            lead_to_what_is_there(case, ground)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            if case.call_and_validate(headers=headers, checks=CHECKS, timeout=60).status_code < 300:
                succeeded.add(case.operation.label)

        check()
    # Examples that are all refused would show nothing.
    assert len(operations) > 50
    assert len(succeeded) > 40, sorted({each.label for each in operations} - succeeded)


def lead_to_what_is_there(case, ground: Ground) -> None:
    """Aim at what is there, unless it would be gone then or the answer would never end; wait briefly."""
    parameters = case.path_parameters or {}
    ends = case.method == "DELETE" and not case.path.endswith(("/files", "/stdin"))
    there = {"session": "shell", "exec_id": "true" if case.path.endswith("/stream") else "cat"}
    if "sandbox" in parameters and not case.path.endswith("/watch"):
        there["sandbox"] = ground.sandbox()
    for name in parameters:
        if name in there and not (ends and case.path.endswith(f"{{{name}}}")):
            parameters[name] = there[name]
    if case.path.endswith("/output"):
        case.query = {"timeout": 0.1, **(case.query or {})}
    for place in (case.body, case.query):
        if not isinstance(place, dict):
            continue
        for name, least, most in (("timeout", 0, 0.2), ("ttl", 60, 600)):
            if isinstance(place.get(name), int | float):
                place[name] = max(least, min(place[name], most))
