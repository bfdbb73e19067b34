"""Reads one task's folder; knows no other task and no sandbox."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tumbler_envs.terminal.folder.configuration import EnvironmentSection, TaskConfiguration, parse_configuration
from tumbler_envs.terminal.folder.reading import digest_of, read_text, read_tree
from tumbler_envs.terminal.task import TEST_SCRIPT, TaskFile, TerminalTask

__all__ = ["CONFIGURATION", "LoadedFolder", "load_folder"]

CONFIGURATION = "task.toml"
_SOLUTION_SCRIPT = "solve.sh"
_BUILD_FILES = ("Dockerfile", "docker-compose.yaml")
"""Files of environment/ that say how an image is built."""
_CANARY = re.compile(r"(<!--.*canary.*-->|#.*canary.*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LoadedFolder:
    """A task's folder as it was read."""

    task: TerminalTask
    instruction: str
    metadata: Mapping[str, object]
    """The section [metadata] of its task.toml."""
    digest: str
    """A hash of all files that were read."""


def load_folder(folder: Path, *, workdir: str, images: Mapping[str, str]) -> LoadedFolder:
    """Read a task; raise `ValueError` that says what is wrong with it.

    Args:
        folder: with task.toml, instruction.md, environment/, tests/ and perhaps solution/.
        workdir: where the files go unless task.toml says.
        images: patterns of names → what stands for a Dockerfile.
    """
    texts = {name: read_text(folder / name, within=folder) for name in (CONFIGURATION, "instruction.md")}
    for name, text in texts.items():
        if text is None:
            raise ValueError(f"has no {name}")
    try:
        configuration = parse_configuration(texts[CONFIGURATION] or "")
    except ValueError as error:
        raise ValueError(f"{CONFIGURATION} {error}") from error
    trees = {name: read_tree(folder / name, within=folder) for name in ("environment", "tests", "solution")}
    if TEST_SCRIPT not in trees["tests"]:
        raise ValueError(f"has no tests/{TEST_SCRIPT}, which judges it")
    image = _image(folder.name, configuration.environment, images)
    _require_no_build(trees["environment"], image)
    everything = {name: TaskFile(content=(text or "").encode()) for name, text in texts.items()}
    for name, tree in trees.items():
        everything |= {f"{name}/{path}": file for path, file in tree.items()}
    return LoadedFolder(
        task=_task(folder.name, configuration, trees, image, workdir),
        instruction=_without_canary(texts["instruction.md"] or ""),
        metadata=configuration.metadata,
        digest=digest_of(everything),
    )


def _task(
    name: str,
    configuration: TaskConfiguration,
    trees: Mapping[str, Mapping[str, TaskFile]],
    image: str | None,
    workdir: str,
) -> TerminalTask:
    environment, verifier, user = configuration.environment, configuration.verifier, configuration.agent.user
    # Where an image was built, the files of environment/ are in it, wherever the Dockerfile put them.
    built = any(file in trees["environment"] for file in _BUILD_FILES)
    return TerminalTask(
        name=name,
        files={} if built else trees["environment"],
        tests=trees["tests"],
        workdir=environment.workdir or workdir,
        solution=_solution(trees["solution"]),
        image=image,
        user=None if user is None else str(user),
        env=environment.env,
        verifier_env=verifier.env,
        verifier_timeout=verifier.timeout_sec,
        resources=environment.resources,
        network=configuration.agent.policy or environment.policy,
        verifier_network=verifier.policy or (environment.policy if configuration.agent.policy else None),
        healthcheck=environment.healthcheck.healthcheck if environment.healthcheck else None,
    )


def _image(name: str, environment: EnvironmentSection, images: Mapping[str, str]) -> str | None:
    named = next((image for pattern, image in images.items() if fnmatchcase(name, pattern)), None)
    return named or environment.docker_image


def _require_no_build(files: Mapping[str, TaskFile], image: str | None) -> None:
    found = next((name for name in _BUILD_FILES if name in files), None)
    if found == "docker-compose.yaml":
        raise ValueError(f"environment/{found} wants several containers; a task has one sandbox here")
    if found and image is None:
        raise ValueError(
            f"environment/{found} would have to be built, which is not done here: build it yourself and name the "
            "image, or a folder or tar archive of its files, in the setting images"
        )


def _solution(files: Mapping[str, TaskFile]) -> tuple[str, ...]:
    """Return the one command that solves the task; none if the script needs files beside it."""
    if set(files) != {_SOLUTION_SCRIPT}:
        return ()
    script = files[_SOLUTION_SCRIPT].content.decode("utf-8", errors="replace")
    return (f"bash -c {shlex.quote(script)}",)


def _without_canary(text: str) -> str:
    """Leave out leading lines that mark a benchmark's files for those who collect training data."""
    lines = text.splitlines()
    while lines and (_CANARY.fullmatch(lines[0].strip()) or not lines[0].strip()):
        lines.pop(0)
    return "\n".join(lines).rstrip()
