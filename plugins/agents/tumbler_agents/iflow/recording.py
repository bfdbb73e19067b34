"""Brings every call into the episode's record; where there is no episode, nothing is recorded."""

import asyncio
from typing import Literal

from tumbler.contracts.agent import EpisodeTools, NotingTools
from tumbler.contracts.environment import StepResult
from tumbler.contracts.values import ToolCall
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["CallRecord"]


class CallRecord:
    """Calls of the environment's tools, and notes of the scaffold's own."""

    def __init__(self, tools: EpisodeTools | None) -> None:
        """Record into `tools`; None where there is no episode."""
        self.tools = tools
        self.ended: Literal["terminated", "truncated"] | None = None
        """How the environment has ended the episode; None while it goes on."""
        self._turn = asyncio.Lock()

    async def step(self, call: ToolCall, *, chunk: int | None) -> ToolOutput:
        """Carry out a call of the environment's; side by side they wait for each other."""
        if self.tools is None or chunk is None:
            raise ValueError(f"the tool {call.name!r} belongs to an environment, and there is none")
        async with self._turn:
            if self.ended is not None:
                return ToolOutput(text="not carried out: the episode is over", errored=True, ends=True)
            result = await self.tools.call(call, chunk=chunk)
            if result.terminated or result.truncated:
                self.ended = "terminated" if result.terminated else "truncated"
        return ToolOutput(text=result.observation, errored=result.errored, ends=self.ended is not None)

    def note(self, call: ToolCall, output: ToolOutput, *, chunk: int | None) -> None:
        """Record a call that the scaffold carried out, or refused, itself."""
        if chunk is None:
            return
        if isinstance(self.tools, NotingTools):
            self.tools.note(call, StepResult(observation=output.text, errored=output.errored), chunk=chunk)
        elif output.errored:
            self.reject(output.text, chunk=chunk)

    def reject(self, reason: str, *, chunk: int | None) -> None:
        """Record that a reply made no call that can be carried out."""
        if self.tools is not None and chunk is not None:
            self.tools.reject(chunk=chunk, reason=reason)
