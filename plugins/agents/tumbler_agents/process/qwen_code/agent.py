"""The agent `qwen-code`: how that program is configured, and what its own words say."""

import json
from typing import Final

from tumbler.contracts.agent import EndReason
from tumbler.contracts.values import JSON, JSONObject
from tumbler_agents.process.apis import base_url, environment_of
from tumbler_agents.process.launching import Asked, Launch
from tumbler_agents.process.outcome import Ended
from tumbler_agents.process.packages.installing import NODE, NPM
from tumbler_agents.process.packages.settings import PackageSettings
from tumbler_agents.process.program import ProgramAgent
from tumbler_agents.process.qwen_code.settings import QwenCodeSettings

__all__ = ["QwenCodeAgent"]

_CONFIGURATION: Final = "settings.json"
_ENTRY: Final = f"{NPM}/node_modules/@qwen-code/qwen-code/cli-entry.js"
_CONTEXT: Final = 32_768
"""Tokens of a model that nobody knows."""
_RETRIES: Final = 2
_LAST_BYTES: Final = 4000
_TOO_LONG: Final = (b"Context is too large to send", b"maximum context length")
"""How it says that not even compaction has made room."""
_REASONS: Final[dict[int, EndReason]] = {53: "turn_limit", 55: "truncated"}
"""Its exit codes: too many turns, a budget that is used up."""


class QwenCodeAgent(ProgramAgent):
    """Runs Qwen Code without a user, who would have agreed to everything."""

    name = "qwen-code"

    def __init__(self, settings: QwenCodeSettings) -> None:
        """Keep the settings."""
        super().__init__(settings)
        self._settings = settings

    @property
    def packages(self) -> PackageSettings:
        """Return its own package, and Node, beside those of the settings."""
        given = self._settings.packages
        own = f"@qwen-code/qwen-code@{self._settings.version}"
        return given.model_copy(update={"npm": (own, *given.npm), "node": given.node or self._settings.node})

    def plan(self, asked: Asked) -> Launch:
        """Configure it by a file of settings that go before all others; the prompt is on its standard input."""
        target = self.packages.target
        values = asked.values(base_url("chat-completions", asked.endpoint))
        options = ["--yolo", "--max-session-turns", str(asked.turns), "--output-format", "stream-json"]
        options += ["--auth-type", "openai", "--model", asked.endpoint.model]
        if self._settings.system_prompt is not None:
            options += ["--system-prompt", self._settings.system_prompt]
        places = {
            "QWEN_HOME": f"{asked.folder}/home",
            "QWEN_CODE_SYSTEM_SETTINGS_PATH": f"{asked.folder}/{_CONFIGURATION}",
        }
        return Launch(
            command=[f"{target}/{NODE}/bin/node", f"{target}/{_ENTRY}", *options],
            env={**environment_of("chat-completions", asked.endpoint), **_QUIET, **places, **self.own_env(values)},
            files={_CONFIGURATION: json.dumps(self._configuration(asked), indent=1)},
            reads_prompt=True,
        )

    def judge(self, ended: Ended) -> EndReason | None:
        """Return what its exit code and its last words say."""
        if ended.exit.timed_out or ended.exit.exit_code == 0:
            return None
        if any(words in ended.output[-_LAST_BYTES:] for words in _TOO_LONG):
            return "context_overflow"
        return _REASONS.get(ended.exit.exit_code)

    def _configuration(self, asked: Asked) -> JSONObject:
        settings = self._settings
        sampling: dict[str, JSON] = {} if settings.max_tokens is None else {"max_tokens": settings.max_tokens}
        generation: JSONObject = {
            "contextWindowSize": settings.context_window or asked.endpoint.context_length or _CONTEXT,
            "maxRetries": _RETRIES,
            # Once it is there, nothing is added to it, such as a limit that the policy's context has no room for.
            "samplingParams": sampling,
        }
        return {
            "model": {"name": asked.endpoint.model, "maxSessionTurns": asked.turns, "generationConfig": generation},
            "context": {"autoCompactThreshold": settings.compact_at},
            "security": {"auth": {"selectedType": "openai"}, "folderTrust": {"enabled": False}},
            "tools": {"approvalMode": "yolo", "exclude": list(settings.exclude_tools)},
            "general": {"enableAutoUpdate": False, "chatRecording": False},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
            "ui": {"enableFollowupSuggestions": False},
            # Each would ask the policy for more than the task does.
            "memory": {"enableManagedAutoMemory": False, "enableManagedAutoDream": False, "enableAutoSkill": False},
        }


_QUIET: Final = {
    "QWEN_CODE_NO_RELAUNCH": "true",
    "QWEN_CODE_SUPPRESS_YOLO_WARNING": "1",
    "QWEN_CODE_DISABLE_CRON": "1",
    "NO_COLOR": "1",
}
