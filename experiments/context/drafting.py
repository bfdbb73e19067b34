"""Writes the scripts of tasks: sweeps of routine items with findings among them; knows no family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from experiments.context.grammar import Fact
from experiments.context.script import Script, Step, call

__all__ = ["ITEMS", "SWEEPS", "Draft", "Item", "asking", "noise"]

SWEEPS: Final = 4
ITEMS: Final = 5
"""Of each sweep."""

_GOODS: Final = (
    "bolts",
    "crates",
    "cables",
    "lamps",
    "valves",
    "hoses",
    "panels",
    "seals",
    "drums",
    "brackets",
    "filters",
    "gauges",
)
_PLACES: Final = (
    "north bay",
    "south bay",
    "loft",
    "cellar",
    "yard",
    "annex",
    "gate hall",
    "cold room",
    "ramp",
    "east wing",
)
_PEOPLE: Final = ("Ames", "Berg", "Cole", "Dorn", "Eady", "Fisk", "Gant", "Holt", "Iles", "Judd")
_STATES: Final = ("dry", "dusty", "in order", "half full", "well lit", "newly painted", "to be swept", "counted twice")
_STEMS: Final = (
    "birch",
    "clover",
    "dahlia",
    "elder",
    "fennel",
    "ginger",
    "hazel",
    "iris",
    "juniper",
    "lotus",
    "maple",
    "nettle",
)
_SENTENCES: Final = 14
_MOST_SIDE: Final = 12
_TASK: Final = (
    "You keep the books of a depot. Do what the last line that begins with 'Now:' asks for, one request after the "
    "other, with the tools; `status` repeats that line. What an item says is shown once, and later requests may ask "
    "for it. Go on until there is no request any more."
)


@dataclass
class Item:
    """A routine item before it is written: what it says besides, and what is asked for after it."""

    said: list[object] = field(default_factory=list)
    user: str = ""
    after: list[Step] = field(default_factory=list)


class Draft:
    """A script under construction: four sweeps of five items, and what the family puts among them."""

    def __init__(self, rng: Random) -> None:
        """Draw from `rng`."""
        self.rng = rng
        self.items = [Item() for _ in range(SWEEPS * ITEMS)]
        self.steps: list[Step] = []
        self._stems = rng.sample(_STEMS, len(_STEMS))

    def number(self) -> str:
        """Return four digits."""
        return str(self.rng.randint(1000, 9999))

    def tell(self, said: object, *, sweep: int) -> int:
        """Let an item of a sweep say something; return which. It is never the first one, which `window` keeps."""
        index = sweep * ITEMS + self.rng.randrange(sweep == 0, ITEMS)
        self.items[index].said.append(said)
        return index

    def scatter(self) -> None:
        """Let items after the first sweep tell of codes that nothing asks for, none to twelve of them."""
        for number in range(self.rng.randint(0, _MOST_SIDE)):
            subject = f"{self._stems[number % len(self._stems)]}-{number + 1}"
            self.tell(Fact("code", subject, self.number()), sweep=self.rng.randrange(1, SWEEPS))

    def lay(self) -> None:
        """Add all sweeps."""
        for index, item in enumerate(self.items):
            sweep, place = divmod(index, ITEMS)
            if place == 0:
                self.add(Step(text="", request=f"begin sweep {sweep + 1}", calls=(call("next"),)))
            self.add(self._written(index, item))
            for step in item.after:
                self.add(step)
            if place == ITEMS - 1:
                self.add(Step(text="", request=f"end sweep {sweep + 1}", calls=(call("next"),)))

    def add(self, step: Step) -> None:
        """Add a step."""
        self.steps.append(step)

    def ask(self, fact: Fact) -> None:
        """Add a request to report a fact."""
        self.add(asking(fact))

    def _written(self, index: int, item: Item) -> Step:
        sentences = [noise(self.rng) for _ in range(_SENTENCES)]
        for each in item.said:
            sentences.insert(self.rng.randint(0, len(sentences)), str(each))
        text = f"Item {index + 1}.\n" + "\n".join(sentences)
        return Step(text=text, request="go on", calls=(call("next"),), user=item.user)

    def script(
        self,
        family: str,
        needed: Sequence[object],
        *,
        more: str = "",
        cards: Mapping[str, str] | None = None,
        helper: bool = False,
    ) -> Script:
        """Return what was drafted."""
        return Script(
            family=family,
            instruction=f"{_TASK} {more}".strip(),
            steps=tuple(self.steps),
            needed=tuple(map(str, needed)),
            cards=cards or {},
            helper=helper,
        )


def asking(fact: Fact) -> Step:
    """Return the request to report a fact."""
    request = f"report the {fact.attribute} of {fact.subject}"
    return Step(text="", request=request, calls=(call("report", value=fact.value),), scored=True)


def noise(rng: Random) -> str:
    """Return a sentence that no request asks about."""
    number, other = rng.randint(2, 99), rng.randint(2, 99)
    return (
        f"{rng.choice(_PEOPLE)} counted {number} {rng.choice(_GOODS)} in the {rng.choice(_PLACES)}, "
        f"{rng.choice(_STATES)}, and {other} {rng.choice(_GOODS)} beside."
    )
