"""The way from a program in a sandbox to the gateway, on the backends beside bubblewrap.

A real Docker engine, the service behind the `remote` backend, and the local servers of E2B's and Modal's protocols:
each sandbox has no network, and reaches one address of this machine through the relay.
"""

import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.agents.process.playing import call, in_order, play, stage_on
from tests.agents.process.serving import client, echo, server
from tests.backends.sandbox.docker.conftest import docker_engine  # noqa: F401  # a fixture
from tests.backends.sandbox.e2b.conftest import KEY, serving
from tests.backends.sandbox.modal.serving import modal_server
from tests.backends.sandbox.remote.test_remote_contract import ServedBackend

from tumbler.contracts.sandbox import Mount, SandboxBackend, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_agents.process.agent import ProcessAgent
from tumbler_agents.process.mini_swe_agent.agent import MiniSweAgent
from tumbler_agents.process.mini_swe_agent.settings import MiniSweAgentSettings
from tumbler_agents.process.packages.cache import default_cache
from tumbler_agents.process.packages.settings import PackageSettings
from tumbler_agents.process.relay.opening import open_relay
from tumbler_agents.process.settings import ProcessSettings
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.settings import DockerSettings
from tumbler_backends.sandbox.e2b.backend import E2bBackend
from tumbler_backends.sandbox.e2b.settings import E2bSettings
from tumbler_backends.sandbox.modal.backend import ModalBackend
from tumbler_backends.sandbox.modal.settings import ModalSettings
from tumbler_envs.terminal.settings import ResourceSettings, TerminalSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first time the program is installed

AGENT = Path(__file__).parents[1] / "agents" / "process" / "small_agent.py"
TOOLS = Path(__file__).parents[2] / "tools"
UNLIMITED = ResourceSettings(memory_bytes=None, processes=None)
"""For any backend, whatever limits it can enforce."""
USERS = {"modal": "root"}
"""Who runs commands, where it is not the backend's default: Modal's local server cannot become another user, and what
`terminal` ends before its tests, all that this user runs, would otherwise be the sandbox itself."""
PASSES = """
body = b"SESSION_END\\0\\r\\n" + bytes(range(256)) * (1 << 12)

def talk(number):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        threading.Thread(target=lambda: (connection.sendall(body), connection.shutdown(socket.SHUT_WR))).start()
        seen = hashlib.sha256()
        while piece := connection.recv(1 << 16):
            seen.update(piece)
        found.append(seen.hexdigest())

found = []
threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(found), *set(found))
"""
BODY = b"SESSION_END\0\r\n" + bytes(range(256)) * (1 << 12)


@pytest.fixture(scope="module")
def image() -> str:
    """A root file system with Python, and with the library that compiled wheels need."""
    make = ["sh", TOOLS / "make-test-image.sh", "libstdc++6"]
    return subprocess.run(make, check=True, stdout=subprocess.PIPE, text=True, timeout=280).stdout.strip()


@pytest.fixture(params=["docker", "remote", "e2b", "modal"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def backend(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SandboxBackend]:
    """A backend that has started, with all that it speaks to."""
    async with AsyncExitStack() as stack:
        made = open_backend(kind, request, stack, tmp_path)
        stack.push_async_callback(made.close)
        await made.start()
        yield made


class ProgramsServed(ServedBackend):
    """The remote backend, whose service may show installed programs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        settings = BubblewrapSettings(root=folder / "sandboxes", grace=0.2, mountable=(default_cache(),))
        self._local = BubblewrapBackend(settings)


def open_backend(kind: str, request: pytest.FixtureRequest, stack: AsyncExitStack, folder: Path) -> SandboxBackend:
    """Start what the backend speaks to until the stack is closed, and return the backend."""
    if kind == "docker":
        host, image = request.getfixturevalue("docker_engine"), request.getfixturevalue("image")
        return DockerBackend(DockerSettings(host=host, image=image, root=folder / "docker", grace=0.2))
    if kind == "remote":
        return ProgramsServed(folder)
    if kind == "modal":
        stack.enter_context(modal_server(folder / "modal", "root"))
        return ModalBackend(ModalSettings(tier="namespace", grace=0.2, pulse=0.5, encrypted_ports=False))
    url = stack.enter_context(serving(folder / "e2b")).url
    settings = E2bSettings(api_key=SecretStr(KEY), api_url=url, sandbox_url=url, tier="namespace", grace=0.2)
    return E2bBackend(settings)


async def test_connections_side_by_side_pass_through_unchanged_and_nothing_else_does(backend, kind):
    sandbox = await backend.create(SandboxSpec(user=USERS.get(kind)))
    async with server(echo) as other, server(echo) as endpoint:
        async with open_relay(sandbox, endpoint, folder="/tmp/relay") as opened:
            assert await client(sandbox, opened, PASSES) == f"4 {hashlib.sha256(BODY).hexdigest()}"
            port = other.url.rpartition(":")[2]
            beside = f"print(socket.socket().connect_ex(('127.0.0.1', {port})) != 0)"
            assert await client(sandbox, opened, beside) == "True", "another server of this machine was reached"
        assert all(info.exit is not None for info in await sandbox.processes())
    assert opened.relay.failure == ""
    await sandbox.delete()


async def test_a_program_does_a_task_with_the_policy_behind_the_gateway(backend, kind):
    on = await stage_on(backend, TerminalSettings(resources=UNLIMITED, user=USERS.get(kind)))
    script = [*(call("sh", command=each) for each in ["ls", *on.solution]), "Done."]
    files = {"agent.py": AGENT.read_text()}
    program = ProcessAgent(ProcessSettings(launch=("python3", "{folder}/agent.py", "{prompt_file}"), files=files))
    played = await play(on, program, in_order(script))
    assert played.trajectory.status_reason == "finished" and played.trajectory.success
    assert len(played.trajectory.chunks) == len(script)
    played.check_tokens()


@pytest.mark.parametrize("kind", ["docker", "remote"], indirect=True)
async def test_an_installed_program_is_shown_to_the_sandbox_and_does_a_task(backend, kind):
    on = await stage_on(backend, TerminalSettings(resources=UNLIMITED))
    script = [call("bash", command=each) for each in [*on.solution, "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"]]
    played = await play(on, MiniSweAgent(MiniSweAgentSettings()), in_order(script))
    assert played.trajectory.status_reason == "finished" and played.trajectory.success
    played.check_tokens()


@pytest.mark.parametrize("kind", ["e2b", "modal"], indirect=True)
async def test_a_backend_that_mounts_nothing_refuses_an_installed_program_and_says_so(backend, kind, tmp_path):
    installed = SandboxSpec(mounts=(Mount(source=str(tmp_path), target=PackageSettings().target),))
    with pytest.raises(CapabilityError, match=f"the {kind} backend cannot make this sandbox: mounts"):
        await backend.create(installed)
