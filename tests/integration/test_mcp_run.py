"""A run of `iflow` with two real servers of the Model Context Protocol, one over stdio and one over streamable HTTP.

`mcp-server-time` is the one from PyPI, unmodified; the other is made with the protocol's own library and runs in a
process of its own. A registry names both, `tumbler run` evaluates, and what the servers said is read from the run's
folder.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.mcp.servers import HERE, TOKEN
from tests.integration.programs_model import make_model
from tests.integration.scripted_plugin import Site, call

from tumbler.formats.files import read_trajectories
from tumbler.trajectory import Trajectory, verify_trajectory
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

pytestmark = pytest.mark.slow

CONTEXT = 16_000
LIFE_S = 1200
"""After so long the server ends, whatever becomes of the test."""
REPLIES = [
    call("time__convert_time", source_timezone="Asia/Tokyo", time="12:00", target_timezone="UTC"),
    "Both at once.\n"
    + call("sums__add", a=20, b=22)
    + "\n"
    + call("time__get_current_time", timezone="Europe/Nowhere"),
    "Done.",
]

REGISTRY = """
schema = 1

[envs.trail]
use = "trail"
steps = [1, 1]

[agents.coder]
use = "iflow"
include = ["time__*", "sums__*"]
todo = false
sub_agents = {{ depth = 0 }}

[agents.coder.mcp.time]
command = {python}
args = ["-m", "mcp_server_time", "--local-timezone=UTC"]

[agents.coder.mcp.sums]
url = {url}
secret_headers = {{ Authorization = {{ env = "SUMS_AUTHORIZATION" }} }}
include = ["add"]

[models.small]
use = "folder"
path = {model}

[backends.box]
use = "bubblewrap"
root = {root}

[backends.script]
use = "spoken/policy"
replies = {replies}

[runs.served]
env = "trail"
agent = "coder"
model = "small"
backends = {{ sandbox = "box", inference = "script", execution = "local" }}
stages = ["eval"]
limits = {{ turns = 6, seconds = 600 }}
sampling = {{ max_tokens = 400 }}
eval = {{ episodes = 2 }}
"""


@pytest.fixture
def sums() -> Iterator[str]:
    """Serve sums over streamable HTTP, and yield the address."""
    serve = [sys.executable, str(HERE / "offering_server.py"), "http", TOKEN, "0"]
    with subprocess.Popen(
        ["timeout", "--kill-after=5", str(LIFE_S), *serve], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/mcp"
        finally:
            server.terminate()


@pytest.fixture
def trajectories(tmp_path: Path, sums: str, monkeypatch: pytest.MonkeyPatch) -> list[Trajectory]:
    """Run it."""
    monkeypatch.setenv("SUMS_AUTHORIZATION", TOKEN)
    values = {
        "python": sys.executable,
        "url": sums,
        "model": str(make_model(tmp_path / "model", context=CONTEXT)),
        "root": str(tmp_path / "sandboxes"),
        "replies": REPLIES,
    }
    quoted = {name: json.dumps(value) for name, value in values.items()}
    (tmp_path / "registry.toml").write_text(REGISTRY.format(**quoted))
    site = Site(tmp_path)
    site.tumbler("check", timeout=300)
    site.tumbler("run", "served", "--folder", "run", timeout=800)
    return list(read_trajectories(tmp_path / "run"))


@pytest.mark.timeout(1200)
def test_a_run_uses_a_server_over_stdio_and_one_over_http(trajectories: list[Trajectory], tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(tmp_path / "model")
    assert len(trajectories) == 2
    for trajectory in trajectories:
        verify_trajectory(trajectory)
        assert (trajectory.status, trajectory.status_reason) == ("completed", "finished")
        assert [[each.name for each in chunk.tool_calls] for chunk in trajectory.chunks] == [
            ["time__convert_time"],
            ["sums__add", "time__get_current_time"],
            [],
        ]
        converted, both, _ = (chunk.observation for chunk in trajectory.chunks)
        assert re.search(r"T03:00:00\+00:00", converted), converted
        assert "42" in both and "Europe/Nowhere" in both
        assert [chunk.errored for chunk in trajectory.chunks] == [False, True, False]
        last = trajectory.chunks[2]
        prompt = tokenizer.decode(trajectory.segments[last.segment].token_ids[: last.start])
        assert converted in prompt and both.splitlines()[0] in prompt, "the answers are not what the policy was shown"
    kept = [path.read_text() for path in (tmp_path / "run").rglob("*.json*")]
    assert kept and not any(TOKEN in text for text in kept), "the secret header was written down"
