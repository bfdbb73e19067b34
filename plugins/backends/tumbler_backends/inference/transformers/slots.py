"""Which stretch of the key-value cache holds whose tokens; pure bookkeeping, knows no tensor."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Slot", "SlotPool", "common_prefix"]


def common_prefix(left: list[int], right: list[int]) -> int:
    """Return how many leading ids are equal."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:  # equal up to `low`, not up to `high`
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass(eq=False)
class Slot:
    """A stretch of `capacity` tokens of the cache from token `start` on."""

    start: int
    capacity: int
    token_ids: list[int] = field(default_factory=list)
    """The tokens whose keys and values it holds."""


class SlotPool:
    """A first-fit allocator of slots, and the idle ones by session, the one unused longest first."""

    def __init__(self, capacity: int) -> None:
        """Manage `capacity` tokens."""
        self.capacity = capacity
        self.evictions = 0
        self._free: list[tuple[int, int]] = [(0, capacity)]  # (start, tokens), sorted, never adjacent
        self._idle: OrderedDict[str, Slot] = OrderedDict()

    @property
    def used(self) -> int:
        """Return how many tokens are reserved."""
        return self.capacity - sum(tokens for _, tokens in self._free)

    def idle(self) -> Iterator[Slot]:
        """Yield the idle slots."""
        yield from self._idle.values()

    def take(self, session: str) -> Slot | None:
        """Return the session's slot, which is the caller's until `keep` or `free`."""
        return self._idle.pop(session, None)

    def keep(self, session: str, slot: Slot) -> None:
        """Make the slot idle, in place of what the session had."""
        self.release(session)
        self._idle[session] = slot

    def release(self, session: str) -> None:
        """Free the session's idle slot."""
        slot = self._idle.pop(session, None)
        if slot is not None:
            self.free(slot)

    def clear(self) -> None:
        """Free every idle slot."""
        for session in list(self._idle):
            self.release(session)

    def reserve(self, tokens: int, *, roomy: int = 0, sparing: Slot | None = None) -> Slot | None:
        """Return an empty slot for `tokens`, or None if there is no room.

        It takes `roomy` tokens where they are free. Otherwise idle slots other than `sparing` are evicted
        until `tokens` fit.
        """
        slot = self._allocate(max(tokens, roomy)) or self._allocate(tokens)
        while slot is None:
            victim = next((name for name, idle in self._idle.items() if idle is not sparing), None)
            if victim is None:
                return None
            self.release(victim)
            self.evictions += 1
            slot = self._allocate(tokens)
        return slot

    def free(self, slot: Slot) -> None:
        """Give the slot's stretch back."""
        slot.token_ids = []
        merged: list[tuple[int, int]] = []
        for start, tokens in sorted([*self._free, (slot.start, slot.capacity)]):
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + tokens)
            else:
                merged.append((start, tokens))
        self._free = merged

    def _allocate(self, tokens: int) -> Slot | None:
        for index, (start, free) in enumerate(self._free):
            if free >= tokens:
                self._free[index : index + 1] = [(start + tokens, free - tokens)] if free > tokens else []
                return Slot(start, tokens)
        return None
