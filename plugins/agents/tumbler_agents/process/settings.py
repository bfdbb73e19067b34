"""The settings that all agents which are programs share, and those of `process`."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tumbler.config import Settings
from tumbler_agents.process.apis import Api
from tumbler_agents.process.filling import unknown_places
from tumbler_agents.process.packages.settings import PackageSettings

__all__ = ["PLACES", "ProcessSettings", "ProgramSettings"]

PLACES = ("base_url", "key", "model", "prompt_file", "folder", "turns", "context_length")
"""What may stand in braces in words, variables and files."""


class ProgramSettings(Settings):
    """What a program is asked, how long it may take, and what is kept of it."""

    prompt: str = "{instruction}\n{observation}"
    """What the program is asked. `{instruction}` is the task's, and `{observation}` the environment's first one, which
    may be empty."""

    seconds: float | None = Field(default=None, gt=0)
    """How long the program may run; then it is ended, and judged by what it has done. None is nine tenths of the
    episode's `limits.seconds`, which leave time for the verdict."""

    env: dict[str, str] = Field(default_factory=dict)
    """More variables for the program. In a value, `{base_url}`, `{key}`, `{model}`, `{prompt_file}`, `{folder}`,
    `{turns}` and `{context_length}`, the model's in tokens, stand for what they say."""

    packages: PackageSettings = PackageSettings()
    """What is installed for it."""

    collect: tuple[str, ...] = ()
    """Files that are kept when it has ended, such as its own log: absolute, or below its `{folder}`."""

    log_bytes: int = Field(default=16_000, ge=0, le=1 << 20)
    """How much of its output, and of each file, goes into the trajectory's details: the end."""

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, value: str) -> str:
        return _checked(value, ("instruction", "observation"))

    @field_validator("env")
    @classmethod
    def _check_env(cls, value: dict[str, str]) -> dict[str, str]:
        for each in value.values():
            _checked(each, PLACES)
        return value


class ProcessSettings(ProgramSettings):
    """How any program is run: what starts it, and how it learns where its model is."""

    launch: tuple[str, ...] | str
    """What starts it. As words, `{prompt}`, `{prompt_file}`, `{base_url}`, `{key}`, `{model}`, `{folder}`, `{turns}`
    and `{context_length}` in them are replaced, and no shell sees them. As one text it goes through `sh -c`, nothing in
    it is replaced, and the same values are in the variables TUMBLER_PROMPT_FILE, TUMBLER_BASE_URL, TUMBLER_API_KEY,
    TUMBLER_MODEL, TUMBLER_FOLDER, TUMBLER_TURNS and TUMBLER_CONTEXT_LENGTH."""

    api: Api = "chat-completions"
    """Which API it speaks: the variables OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL are set for
    `chat-completions` and `responses`, and ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_MODEL for `messages`."""

    stdin: Literal["nothing", "prompt"] = "nothing"
    """What it finds on its standard input."""

    files: dict[str, str] = Field(default_factory=dict)
    """Files that are written for it, such as its configuration: name below its `{folder}` → text, in which the same
    places as in `env` are filled."""

    install: tuple[str, ...] = ()
    """Shell commands that are run in each sandbox before it starts, with the network that the task has."""

    install_seconds: float = Field(default=120.0, gt=0)
    """How long each of them may take."""

    @field_validator("launch")
    @classmethod
    def _check_launch(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not value or not value[0].strip():
            raise ValueError('launch is empty: give the words of a command, such as ["my-agent", "--task", "{prompt}"]')
        if not isinstance(value, str):
            for word in value:
                _checked(word, (*PLACES, "prompt"))
        return value

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name.startswith("/") or ".." in name.split("/") or not name:
                raise ValueError(f"the file {name!r} does not lie below the program's folder: give a relative name")
            _checked(text, PLACES)
        return value

    @model_validator(mode="after")
    def _check_own_file(self) -> Self:
        if "prompt.txt" in self.files:
            raise ValueError("the file prompt.txt holds the prompt; choose another name")
        return self


def _checked(text: str, known: tuple[str, ...]) -> str:
    if problem := unknown_places([text], known):
        raise ValueError(problem)
    return text
