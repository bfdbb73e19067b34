"""The pages about sandboxes: what they show is run, and says what they say it says."""

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumbler import errors
from tumbler.cli.main import _parser
from tumbler.contracts.sandbox import SandboxCapabilities, SandboxSpec
from tumbler.plugins import PluginHost
from tumbler.registry import check_registry, read_registry
from tumbler.sandboxes import open_backend

PAGES = Path(__file__).parents[2] / "docs/sandboxes"
TUMBLER = Path(sys.executable).with_name("tumbler")
ADDRESS = "http://127.0.0.1:8700"
"""Where the pages have their service."""
MIRROR_PORT = "8080"
"""Where the pages have their mirror."""
NOT_RUN = ("pip install", "sandbox serve", "python benchmarks", "python experiments", "start-docker-engine")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def blocks(language: str, *pages: str) -> list:
    """Return page, source and what is printed, for each block of the language."""
    return [
        pytest.param(page.name, source, printed, id=f"{page.stem}-{number}")
        for page in sorted(PAGES.glob("*.md"))
        if not pages or page.name in pages
        for number, (kind, source, printed) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind == language
    ]


def assert_printed(printed: str, expected: str) -> None:
    """Compare but for the last line's end; `…` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("…"))
    assert re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL), f"printed:\n{printed}\nexpected:\n{expected}"


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[str]:
    """Yield the address of a service over bubblewrap, as the command line starts it."""
    root = tmp_path_factory.mktemp("service")
    words = [str(TUMBLER), "sandbox", "serve", "--backend", "bubblewrap", "--port", "0", "--set", f"root={root}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def surroundings(service) -> dict[str, str]:
    """Return the variables that the pages set."""
    return {
        **os.environ,
        "PATH": f"{TUMBLER.parent}:{os.environ['PATH']}",
        "TUMBLER_SANDBOX_URL": service,
        "E2B_API_URL": service,
        "E2B_SANDBOX_URL": service,
        "E2B_API_KEY": "any",
    }


def is_script(source: str) -> bool:
    """Tell whether a block of Python stands for itself."""
    return any(word in source for word in ("asyncio.run(", "SyncBackend", "from e2b "))


SCRIPTS = [each for each in blocks("python") if is_script(each.values[1])]


@pytest.mark.parametrize(("page", "source", "printed"), SCRIPTS)
def test_a_script_prints_what_the_page_says(page, source, printed, service, surroundings, tmp_path):
    words = [sys.executable, "-W", "error", "-c", source.replace(ADDRESS, service)]
    if "from e2b " in source:
        words[1:3] = []  # whose warnings are its own
    done = subprocess.run(
        words, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_printed(done.stdout, printed)


async def _mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 22\r\n\r\nhello from the mirror\n")
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("page", ["index.md", "network.md"])
async def test_the_snippets_of_a_page_print_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = [each.values for each in blocks("python", page) if not is_script(each.values[1])]
    assert snippets
    server = await asyncio.start_server(_mirror, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    settings = {"root": str(tmp_path / "root"), "hosts": {"mirror.example": "127.0.0.1"}}
    async with server, open_backend("bubblewrap", settings) as backend:
        names = {"backend": backend, "sandbox": await backend.create(SandboxSpec()), "SandboxSpec": SandboxSpec}
        for _, source, printed in snippets:
            compiled = compile(
                source.replace(MIRROR_PORT, port), page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            with contextlib.redirect_stdout(io.StringIO()) as output:
                result = eval(compiled, names)
                if inspect.iscoroutine(result):
                    await result
            assert_printed(output.getvalue().replace(port, MIRROR_PORT), printed)


@pytest.mark.parametrize(("page", "source", "printed"), blocks("sh"))
def test_a_command_has_the_options_that_a_page_gives_it(page, source, printed):
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removesuffix("&"), comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        if "|" in words:
            words = words[words.index("|") + 1 :]
        if words[:1] == ["tumbler"]:
            _parser(words[1:])[0].parse_args(words[1:])


@pytest.mark.parametrize(("page", "source", "printed"), blocks("sh", "isolation.md", "benchmarks.md"))
def test_an_experiment_has_the_options_that_a_page_gives_it(page, source, printed):
    for line in source.splitlines():
        python, script, *options = shlex.split(line, comments=True)
        assert python == "python"
        told = subprocess.run(
            [sys.executable, script, "--help"], cwd=PAGES.parents[1], capture_output=True, text=True, check=True
        )
        assert {each for each in options if each.startswith("--")} <= set(re.findall(r"--[a-z-]+", told.stdout))


def test_what_the_shell_prints_is_what_a_page_says(service, surroundings, tmp_path):
    """The blocks of all pages in one shell each, for later ones need what earlier ones made."""
    assert shutil.which("curl")
    for page in sorted(PAGES.glob("*.md")):
        for parameters in blocks("sh", page.name):
            _, source, printed = parameters.values
            if any(word in source for word in NOT_RUN):
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", source.replace(ADDRESS, service)],
                cwd=tmp_path,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{parameters.id}: {done.stdout}{done.stderr}"
            assert_printed(done.stdout, printed or "…")


@pytest.mark.parametrize(("page", "source", "printed"), blocks("toml"))
def test_a_registry_has_no_mistake(page, source, printed, tmp_path):
    assert "schema" in tomllib.loads(source)
    (tmp_path / "registry.toml").write_text(source)
    assert list(check_registry(read_registry(tmp_path / "registry.toml"), PluginHost.load(allow=["tumbler"]))) == []


def column(backend: str) -> dict[str, str]:
    """Return row → cell of a backend in the table of what each can do."""
    table = (PAGES / "backends.md").read_text(encoding="utf-8").split("<!-- capabilities -->\n")[1].split("\n\n")[0]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0].strip("`"): row[header.index(f"`{backend}`")] for row in rows}


def declared(able: SandboxCapabilities) -> dict[str, str]:
    """Return row → cell that the declaration asks for."""
    cells = {"tier": able.tier, "network_modes": ", ".join(able.network_modes)}
    for name in ("snapshots", "pause", "expose", "watch", "pty", "attach", "shared_processes"):
        cells[name] = "yes" if getattr(able, name) else "–"
    for name in ("cpus", "memory_bytes", "disk_bytes", "processes", "open_files", "gpus"):
        cells[name] = "yes" if name in able.enforces else "–"
    return cells


def assert_table(backend: str, able: SandboxCapabilities) -> None:
    """A cell may say more behind a comma or in brackets, such as what a setting adds."""
    shown = {name: re.sub(r" \(.*\)", "", cell) for name, cell in column(backend).items()}
    assert shown == declared(able)


@pytest.mark.parametrize("backend", ["bubblewrap", "process"])
@pytest.mark.filterwarnings("ignore:the process backend isolates nothing:RuntimeWarning")
async def test_the_table_shows_what_a_backend_declares_once_started(backend, tmp_path):
    settings = {"process": {"i_know_this_is_not_isolated": True}}.get(backend, {})
    async with open_backend(backend, {"root": str(tmp_path), **settings}) as opened:
        assert_table(backend, opened.capabilities)


@pytest.fixture
def docker_engine() -> Iterator[str]:
    """Start an engine of our own, unless DOCKER_TEST_HOST names one; yield its address."""
    if given := os.environ.get("DOCKER_TEST_HOST"):
        yield given
        return
    folder = tempfile.mkdtemp(prefix="tumbler-engine-")  # sockets need a short path
    script = str(PAGES.parents[1] / "tools/start-docker-engine.sh")
    said = subprocess.run(["sh", script, folder], check=True, stdout=subprocess.PIPE, text=True, timeout=280)
    yield said.stdout.strip()
    subprocess.run(["sh", script, "--stop", folder], check=True, timeout=60)


async def test_the_table_shows_what_docker_declares_once_started(docker_engine, tmp_path):
    # The page is about runc, which an engine with gVisor has as well.
    settings = {"host": docker_engine, "root": str(tmp_path), "runtime": "runc"}
    async with open_backend("docker", settings) as opened:
        assert_table("docker", opened.capabilities)


@pytest.mark.parametrize("backend", ["e2b", "modal"])
def test_the_table_shows_what_a_cloud_declares(backend):
    host = PluginHost.load(allow=["tumbler"])
    built = host.build("backend", backend, {})
    assert_table(backend, built.capabilities)


def test_the_page_of_backends_has_them_all():
    host = PluginHost.load(allow=["tumbler"])
    text = (PAGES / "backends.md").read_text(encoding="utf-8")
    for component in host.components("backend"):
        if "sandbox" in component.spec.roles:
            assert f"\n## {component.id}\n" in text


def test_the_table_of_errors_is_that_of_the_code():
    text = (PAGES / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]* ?\| (yes|no) \|", text, re.MULTILINE)
    shown = {name.strip("`"): infra for names, infra in rows for name in names.split(", ")}
    classes = {
        each.__name__: "yes" if each.infra else "no"
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.SandboxError) and each is not errors.SandboxError
    }
    assert shown == classes


def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere():
    navigation = (PAGES.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert f"sandboxes/{page.name}" in navigation
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (PAGES / target).exists(), f"{page.name} links {target}"
