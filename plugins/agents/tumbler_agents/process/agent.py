"""The agent `process`: any program, as the settings describe it."""

from collections.abc import Mapping

from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import ExecFailed
from tumbler_agents.process.apis import base_url, environment_of
from tumbler_agents.process.filling import fill
from tumbler_agents.process.launching import Asked, Launch
from tumbler_agents.process.packages.installing import BIN, NODE, PYTHON
from tumbler_agents.process.program import ProgramAgent
from tumbler_agents.process.settings import ProcessSettings

__all__ = ["ProcessAgent"]


class ProcessAgent(ProgramAgent):
    """Runs what the settings name."""

    def __init__(self, settings: ProcessSettings) -> None:
        """Keep the settings."""
        super().__init__(settings)
        self._settings = settings

    def plan(self, asked: Asked) -> Launch:
        """Fill in the values: in words and variables, or for a shell in variables alone."""
        settings = self._settings
        values = asked.values(base_url(settings.api, asked.endpoint))
        launch = settings.launch
        variables: Mapping[str, str] = {}
        if isinstance(launch, str):
            command = ["sh", "-c", launch]
            variables = {_VARIABLES[name]: value for name, value in values.items()}
        else:
            command = [fill(word, {**values, "prompt": asked.prompt}) for word in launch]
        return Launch(
            command=command,
            env={**environment_of(settings.api, asked.endpoint), **self._python(), **variables, **self.own_env(values)},
            files={name: fill(text, values) for name, text in settings.files.items()},
            reads_prompt=settings.stdin == "prompt",
            path=self._path(),
        )

    async def install(self, sandbox: Sandbox) -> str:
        """Run the settings' own commands."""
        folder = await super().install(sandbox)
        for command in self._settings.install:
            result = await sandbox.exec(command, timeout=self._settings.install_seconds)
            if result.exit_code != 0 or result.timed_out:
                how = "did not end in time" if result.timed_out else f"exited with {result.exit_code}"
                said = (result.stderr or result.stdout).decode(errors="replace").strip()[-1000:]
                raise ExecFailed(f"the agent's program could not be installed: {command!r} {how}: {said}")
        return folder

    def _path(self) -> str:
        folders = [BIN] if self.packages.npm else []
        folders += [f"{NODE}/bin"] if self.packages.node is not None else []
        folders += [f"{PYTHON}/bin"] if self.packages.pip else []
        return ":".join(f"{self.packages.target}/{folder}" for folder in folders)

    def _python(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{self.packages.target}/{PYTHON}"} if self.packages.pip else {}


_VARIABLES = {
    "base_url": "TUMBLER_BASE_URL",
    "key": "TUMBLER_API_KEY",
    "model": "TUMBLER_MODEL",
    "prompt_file": "TUMBLER_PROMPT_FILE",
    "folder": "TUMBLER_FOLDER",
    "turns": "TUMBLER_TURNS",
    "context_length": "TUMBLER_CONTEXT_LENGTH",
}
