"""The agent `mini-swe-agent`: how that program is configured, and what its own record says."""

import json
from typing import Final

from tumbler.contracts.agent import EndReason
from tumbler.contracts.values import JSONObject
from tumbler_agents.process.apis import base_url, environment_of
from tumbler_agents.process.launching import Asked, Launch
from tumbler_agents.process.mini_swe_agent.settings import MiniSweAgentSettings
from tumbler_agents.process.outcome import Ended
from tumbler_agents.process.packages.installing import PYTHON
from tumbler_agents.process.packages.settings import PackageSettings
from tumbler_agents.process.program import ProgramAgent

__all__ = ["MiniSweAgent"]

_CONFIGURATION: Final = "configuration.yaml"
_RECORD: Final = "trajectory.json"
_ATTEMPTS: Final = 2
"""Of one call; between them it waits for seconds."""
_START: Final = (
    "import runpy, sys; sys.path[:0] = [sys.argv.pop(1)]; "
    "runpy.run_module('minisweagent.run.mini', run_name='__main__', alter_sys=True)"
)
"""Not by PYTHONPATH: what the policy runs must not see the program's packages."""
_REASONS: Final[dict[str, EndReason]] = {
    "Submitted": "finished",
    "LimitsExceeded": "turn_limit",
    "TimeExceeded": "truncated",
    "RepeatedFormatError": "malformed",
    "ContextWindowExceededError": "context_overflow",
}


class MiniSweAgent(ProgramAgent):
    """Runs mini-SWE-agent as its command `mini` does, but for questions to its user."""

    name = "mini-swe-agent"

    def __init__(self, settings: MiniSweAgentSettings) -> None:
        """Keep the settings."""
        super().__init__(settings)
        self._settings = settings

    @property
    def packages(self) -> PackageSettings:
        """Return its own package beside those of the settings."""
        given = self._settings.packages
        own = (f"mini-swe-agent=={self._settings.version}", f"litellm=={self._settings.litellm}")
        return given.model_copy(update={"pip": (*own, *given.pip)})

    @property
    def collected(self) -> tuple[str, ...]:
        """Return its own record beside those of the settings."""
        return (_RECORD, *self._settings.collect)

    def plan(self, asked: Asked) -> Launch:
        """Configure it by a file that goes on top of the one that it comes with."""
        target = f"{self.packages.target}/{PYTHON}"
        values = asked.values(base_url("chat-completions", asked.endpoint))
        shipped = "mini.yaml" if self._settings.tool_calls else "mini_textbased.yaml"
        files = ["--config", shipped, "--config", f"{asked.folder}/{_CONFIGURATION}"]
        output = ["--output", f"{asked.folder}/{_RECORD}"]
        home = {"MSWEA_GLOBAL_CONFIG_DIR": f"{asked.folder}/home"}
        return Launch(
            command=[self.packages.python, "-c", _START, target, *files, *output],
            env={**environment_of("chat-completions", asked.endpoint), **_QUIET, **home, **self.own_env(values)},
            # JSON is YAML.
            files={_CONFIGURATION: json.dumps(self._configuration(asked), indent=1)},
        )

    def judge(self, ended: Ended) -> EndReason | None:
        """Return what its record says of its end."""
        try:
            record = json.loads(ended.files.get(_RECORD, b""))
            return _REASONS.get(record["info"]["exit_status"])
        except (ValueError, LookupError, TypeError, RecursionError):  # it lies where the policy can write
            return None

    def _configuration(self, asked: Asked) -> JSONObject:
        settings = self._settings
        model: JSONObject = {
            "model_name": f"openai/{asked.endpoint.model}",
            "model_class": "litellm" if settings.tool_calls else "litellm_textbased",
            "cost_tracking": "ignore_errors",
        }
        agent: JSONObject = {
            "agent_class": "default",
            "step_limit": asked.turns,
            "cost_limit": 0,
            "max_consecutive_format_errors": settings.format_errors,
        }
        return {
            "run": {"task": asked.prompt},
            "agent": agent,
            "environment": {"timeout": settings.command_seconds},
            "model": model,
        }


_QUIET: Final = {
    "MSWEA_CONFIGURED": "true",
    "MSWEA_SILENT_STARTUP": "true",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": str(_ATTEMPTS),
    # No look at a list of prices on the net.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
}
