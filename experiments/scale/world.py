"""The simulated world: how long replies and environments take, drawn from a seed. Knows no scheduler."""

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

__all__ = ["TRACES", "Engine", "Trace", "Turn"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of an episode."""

    tokens: int
    """That the policy samples."""
    seconds: float
    """That the environment takes to answer."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """From what the turns of an episode are drawn."""

    turns: tuple[float, float]
    """Mean and sigma of a lognormal number of turns."""
    tokens: tuple[float, float]
    """Mean and sigma of a lognormal number of tokens in a turn."""
    seconds: tuple[float, float]
    """Mean and sigma of the lognormal time of the environment in a turn."""
    stall: float = 0.0
    """Share of turns in which the environment hangs for `stalled` seconds."""
    stalled: float = 0.0
    failure: float = 0.0
    """Share of episodes that end in a failure of infrastructure, at a turn drawn at random."""
    most_turns: int = 64

    def episode(self, random: Random) -> tuple[list[Turn], bool]:
        """Return an episode's turns, and whether it ends in a failure after the last of them."""
        count = min(self.most_turns, max(1, round(_lognormal(random, *self.turns))))
        turns = list(self._turns(count, random))
        failed = random.random() < self.failure
        return (turns[: random.randint(1, count)] if failed else turns), failed

    def _turns(self, count: int, random: Random) -> Iterator[Turn]:
        for _ in range(count):
            hangs = random.random() < self.stall
            seconds = self.stalled if hangs else _lognormal(random, *self.seconds)
            yield Turn(tokens=max(1, round(_lognormal(random, *self.tokens))), seconds=seconds)


TRACES: Mapping[str, Trace] = {
    "even": Trace(turns=(8, 0.0), tokens=(200, 0.3), seconds=(0.5, 0.3)),
    "long-tailed": Trace(turns=(8, 0.6), tokens=(200, 0.8), seconds=(0.5, 1.0), most_turns=48),
    "stragglers and failures": Trace(
        turns=(8, 0.6), tokens=(200, 0.8), seconds=(0.5, 1.0), stall=0.002, stalled=120.0, failure=0.03, most_turns=48
    ),
}
"""Environment latencies with a lognormal tail of sigma 1 and a mean of half a second."""


class Engine:
    """An inference engine: so many replies at once, each token taking as long whatever is beside it."""

    def __init__(self, *, slots: int, tokens_per_second: float) -> None:
        """Serve `slots` replies at once."""
        self._slots = asyncio.Semaphore(slots)
        self.rate = tokens_per_second
        self.version = 0

    async def reply(self, tokens: int) -> int:
        """Sample so many tokens and return the policy version that it was begun with."""
        async with self._slots:
            version = self.version
            await asyncio.sleep(tokens / self.rate)
            return version


def _lognormal(random: Random, mean: float, sigma: float) -> float:
    """Draw from the lognormal distribution with this mean, not that of the underlying normal."""
    return mean if sigma == 0 else random.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
