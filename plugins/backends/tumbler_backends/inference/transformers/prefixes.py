"""Find what of a request is computed already, in its own session or another, and a slot for the rest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tumbler_backends.inference.transformers.runner import Runner
from tumbler_backends.inference.transformers.slots import Slot, SlotPool, common_prefix

__all__ = ["PrefixCache", "Tenant"]

_WORTH_SHARING = 32
"""Tokens. Below this, searching and copying cost about what computing does."""


@dataclass(eq=False)
class Tenant:
    """One request in progress, as far as the cache is concerned."""

    token_ids: list[int]
    """Prompt and reply so far."""
    slot: Slot
    """Holds the computed first part of `token_ids`."""
    stale: bool = field(default=False, kw_only=True)
    """Whether former weights have computed some of that, so that no other request may build upon it."""


class PrefixCache:
    """Slots with their tokens: those of the requests in progress, and idle ones by session."""

    def __init__(self, pool: SlotPool, runner: Runner) -> None:
        """Hand out the pool's slots; the runner holds what is in them."""
        self._pool = pool
        self._runner = runner

    def place(self, session: str, token_ids: list[int], room: int, others: Sequence[Tenant]) -> Slot | None:
        """Return a slot of at least `room` tokens, its `token_ids` the reusable beginning of the request.

        At least the last token is left to compute, since its logits are wanted. Returns None when it is
        better to wait: another request is about to compute a common beginning, or others fill the memory.
        `room` must not pass the pool's capacity.
        """
        own = self._pool.take(session)
        fresh = [other for other in others if not other.stale]
        best, reach = own, common_prefix(own.token_ids, token_ids) if own else 0
        if len(token_ids) - reach > _WORTH_SHARING:
            if _is_coming(token_ids, reach, fresh):
                self._give_back(session, own)
                return None
            best, reach = _best(token_ids, own, reach, (*self._pool.idle(), *(other.slot for other in fresh)))
        slot = own if own is not None and best is own and own.capacity >= room else None
        if slot is None:
            slot, best = self._move(own, best, reach, room, waiting_helps=bool(others))
        if slot is None:
            self._give_back(session, own)
            return None
        kept = self._runner.cut(slot, min(reach, len(token_ids) - 1)) if best is not None else 0
        slot.token_ids = token_ids[:kept]
        return slot

    def _move(
        self, own: Slot | None, best: Slot | None, reach: int, room: int, *, waiting_helps: bool
    ) -> tuple[Slot | None, Slot | None]:
        """Return a new slot with a copy of the best one's beginning, and the best one if there still is one."""
        slot = self._pool.reserve(room, roomy=2 * room, sparing=best)
        if slot is None and waiting_helps:
            return None, best
        if slot is None:  # only what is to be reused is in the way
            self.drop(own)
            own = best = None
            slot = self._pool.reserve(room)
        if slot is not None and best is not None:
            self._runner.copy(best, slot, reach)
        self.drop(own)
        return slot, best

    def leave(self, session: str, slot: Slot) -> None:
        """Keep the slot for the session's next request; without a session, free it."""
        self._give_back(session, slot if session else None)
        if not session:
            self.drop(slot)

    def drop(self, slot: Slot | None) -> None:
        """Free a slot that a request held."""
        if slot is not None:
            self._pool.free(slot)

    def release(self, session: str) -> None:
        """Forget the session's idle slot."""
        self._pool.release(session)

    def forget(self) -> None:
        """Forget everything, as the weights have changed and no request holds a slot."""
        self._pool.clear()
        self._runner.forget()

    def forget_idle(self) -> None:
        """Forget what no request holds, as the weights have changed."""
        self._pool.clear()

    def _give_back(self, session: str, slot: Slot | None) -> None:
        if slot is not None:
            self._pool.keep(session, slot)


def _is_coming(token_ids: list[int], reach: int, others: Iterable[Tenant]) -> bool:
    """Tell whether a request in progress still has to compute a beginning worth waiting for."""
    for other in others:
        shared = common_prefix(other.token_ids, token_ids)
        if shared > max(reach, len(other.slot.token_ids)) + _WORTH_SHARING:
            return True
    return False


def _best(token_ids: list[int], own: Slot | None, reach: int, slots: Iterable[Slot]) -> tuple[Slot | None, int]:
    """Return the slot with the longest common beginning, the own one unless another is worth a copy."""
    best, longest = own, reach + _WORTH_SHARING
    for slot in slots:
        shared = common_prefix(slot.token_ids, token_ids)
        if shared > longest:
            best, longest = slot, shared
    return (best, longest) if best is not own else (own, reach)
