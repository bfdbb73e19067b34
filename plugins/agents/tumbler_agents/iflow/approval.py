"""Which calls may be made: rules by tool and argument, and whoever is asked where they say so."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeAlias

from pydantic import Field, field_validator

from tumbler.config import Settings
from tumbler.contracts.values import JSON, JSONObject
from tumbler_agents.iflow.planning import PLAN_TOOL
from tumbler_agents.iflow.toolbox import Offer

__all__ = ["Approval", "ApprovalRule", "ApprovalSettings", "Approvals", "Approver", "Decision"]

Decision: TypeAlias = Literal["allow", "ask", "deny"]


class ApprovalRule(Settings):
    """What is decided for some calls."""

    tool: str = "*"
    """A pattern of the tool's name, such as `shell` or `*edit*`."""

    matches: str | None = None
    """A regular expression that is searched for in the call's texts, such as `\\brm\\b`; null takes every call."""

    decision: Decision
    """Allow it, ask the person, or deny it."""

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return value

    def covers(self, name: str, arguments: JSONObject) -> bool:
        """Tell whether the rule is about a call."""
        if not fnmatchcase(name, self.tool):
            return False
        return self.matches is None or any(re.search(self.matches, text) for text in _texts(arguments))


class ApprovalSettings(Settings):
    """Which calls may be made. The first rule that covers a call decides."""

    rules: tuple[ApprovalRule, ...] = ()
    """In order."""

    otherwise: Decision = "allow"
    """For calls that no rule covers."""

    reading: Decision = "allow"
    """For calls that no rule covers, of tools that only read."""

    seconds: float = Field(default=0.0, ge=0)
    """How long the person is waited for; 0 waits for ever. Silence is a no."""


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What the person says."""

    allowed: bool
    reason: str = ""
    """What the policy is told of a no."""


class Approver(Protocol):
    """Asks somebody."""

    async def approve(self, agent_id: str, name: str, arguments: JSONObject) -> Approval:
        """Return the answer; takes as long as the person does."""
        ...


class Approvals:
    """The rules, and whom to ask."""

    def __init__(self, settings: ApprovalSettings, approver: Approver | None) -> None:
        """Without `approver`, what would be asked is denied."""
        self._settings = settings
        self._approver = approver

    def decide(self, offer: Offer, arguments: JSONObject) -> Decision:
        """Return what the rules say."""
        for rule in self._settings.rules:
            if rule.covers(offer.spec.name, arguments):
                return rule.decision
        if offer.spec.name == PLAN_TOOL:
            # A plan is made to be looked at; where nobody can, hooks may still block the call.
            return "allow" if self._approver is None else "ask"
        if offer.reads_only or offer.spec.name in _HARMLESS:
            return self._settings.reading
        return self._settings.otherwise

    async def refusal(self, offer: Offer, arguments: JSONObject, *, agent_id: str) -> str | None:
        """Return why a call may not be made, or None; asks where the rules say so."""
        decision, name = self.decide(offer, arguments), offer.spec.name
        if decision == "allow":
            return None
        if decision == "deny":
            return f"error: {name} is not allowed with these arguments; find another way"
        if self._approver is None:
            return f"error: {name} needs approval, and there is nobody to ask; find another way"
        try:
            async with asyncio.timeout(self._settings.seconds or None):
                approval = await self._approver.approve(agent_id, name, arguments)
        except TimeoutError:
            return f"error: {name} was not approved: nobody answered"
        if approval.allowed:
            return None
        return f"error: {name} was not approved" + (f": {approval.reason}" if approval.reason else "")


_HARMLESS = frozenset({"todo_write", "task"})
"""Tools that change nothing but the scaffold's own state; the calls of sub-agents are decided one by one."""


def _texts(value: JSON) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, Sequence):
        return [text for each in value for text in _texts(each)]
    return []
