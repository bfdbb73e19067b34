"""A small model folder, and backends whose servers have a tiny engine in the place of vLLM."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler_backends.inference.vllm import server
from tumbler_backends.inference.vllm.backend import VllmInference
from tumbler_backends.inference.vllm.calling import Address
from tumbler_backends.inference.vllm.server.main import SECRET_VARIABLE
from tumbler_backends.inference.vllm.settings import VllmSettings
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel


def make_model(folder: Path, *, seed: int = 0) -> Path:
    folder.mkdir()
    settings = TinySettings(layers=1, width=64, heads=2, context=512, vocabulary=512)
    return TinyModel(settings).prepare(folder, texts=["Say a word."], seed=seed)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of one shape."""
    folder = tmp_path_factory.mktemp("models")
    return [make_model(folder / str(seed), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="session")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that takes the place of an environment's Python."""
    program = tmp_path_factory.mktemp("double") / "python"
    source = Path(__file__).with_name("double.py").read_text(encoding="utf-8")
    program.write_text(f"#!{sys.executable} -S\n{source}", encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
async def serve(models: list[Path], double: Path, tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """Starts a backend with some settings, and closes it at the end."""
    started: list[VllmInference] = []

    async def start(model: Path = models[0], **settings: object) -> VllmInference:
        chosen = {"transfer_folder": tmp_path / "transfer"} | settings
        if "addresses" not in settings:
            chosen = {"python": double} | chosen
        backend = VllmInference(VllmSettings(**chosen))
        started.append(backend)
        await backend.start(model)
        return backend

    yield start
    for backend in started:
        await backend.close()


@pytest.fixture
def ask() -> Callable[..., GenerateRequest]:
    """Makes requests."""

    def request(token_ids=(7, 8, 9), *, seed: int = 0, session: str = "", **sampling: object) -> GenerateRequest:
        rules = Sampling(**{"max_tokens": 6, **sampling})
        return GenerateRequest(token_ids=tuple(token_ids), sampling=rules, seed=seed, session=session)

    return request


class StandingServer:
    """A server that runs already, and whose state can be asked for."""

    def __init__(self, process: asyncio.subprocess.Process, address: Address) -> None:
        self.process = process
        self.address = address
        self.settings = {"addresses": [f"{address.host}:{address.port}"], "secret": address.secret}

    async def status(self) -> dict[str, object]:
        return await self.address.call("/status", {})

    async def has_sampled(self, tokens: int) -> None:
        """Return once it has sampled so many tokens."""
        while (await self.status())["tokens_sampled"] < tokens:
            await asyncio.sleep(0.01)

    async def is_idle(self) -> None:
        """Return once nothing is in progress."""
        while (await self.status())["in_progress"]:
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
async def stand(models: list[Path], double: Path) -> AsyncIterator[Callable[..., object]]:
    """Starts servers for backends to attach to, and ends them."""
    started: list[StandingServer] = []

    async def start(port: int = 0, **engine: object) -> StandingServer:
        program = Path(server.__file__).with_name("__main__.py")
        engine = {"max_model_len": 512} | engine
        arguments = ["--model", str(models[0]), "--port", str(port), "--engine", json.dumps(engine)]
        environment = {**os.environ, SECRET_VARIABLE: "a-secret"}
        process = await asyncio.create_subprocess_exec(
            double, program, *arguments, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
        )
        assert process.stdout is not None
        port = json.loads(await process.stdout.readline())["port"]
        started.append(StandingServer(process, Address(host="127.0.0.1", port=port, secret="a-secret")))
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            await each.kill()


@pytest.fixture
def servers_of() -> Callable[..., list[psutil.Process]]:
    """Finds the servers among a process's children."""

    def find(process: int | None = None) -> list[psutil.Process]:
        children = psutil.Process(process).children(recursive=True)
        return [child for child in children if any("__main__.py" in part for part in child.cmdline())]

    return find
