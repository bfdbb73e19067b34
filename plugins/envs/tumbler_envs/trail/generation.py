"""Draws trails: from settings and a seed to tasks without end; knows no shell.

A trail is laid from its end to its start, because each file names the one after it. Whether a task is
for training or held out is the parity of a hash of its content, so that no two seeds can put one task
into both.
"""

from collections.abc import Iterator
from itertools import islice
from random import Random

from tumbler.contracts.environment import Task
from tumbler.errors import RunError
from tumbler.seeding import derive_seed
from tumbler_envs.trail.layout import LaidKind, Packed, Trail
from tumbler_envs.trail.settings import StepKind, TrailSettings
from tumbler_envs.trail.words import CHOOSE, COMPUTE, KEYS, LABELS, NAMES, OUTPUT, READ, START, UNPACK, VALUE

__all__ = ["SPLITS", "draw_trail", "generate_tasks"]

SPLITS = ("train", "held-out")
"""The split of a trail is the one at the index of its hash's last bit."""

_ATTEMPTS = 200
"""Draws in a row that give only tasks known already, after which the settings are held to have no more."""
_NUMBERS = range(10, 99)
_ABSENT = 8
"""Names, and numbers, that wrong ways may name although nothing is there."""
_TO_DECOY = 0.7
"""The share of wrong ways that lead to a decoy, if there is one."""
_TO_VALUE = 0.3
"""The share, of the other wrong ways, that give a wrong value at once; the rest lead to nothing."""
_DECOY_ENDS = 0.4
"""The share of decoys that end in a value."""


def generate_tasks(settings: TrailSettings, split: str, *, count: int, seed: int) -> list[Task]:
    """Return `count` different tasks of the split, or nearly all if there are fewer; fewer are a prefix of more."""
    if split not in SPLITS:
        raise RunError(f"trail has no split {split!r}; it has {' and '.join(SPLITS)}")
    tasks: dict[str, Task] = {}
    for index in range(count):
        candidates = islice(_candidates(settings, split, seed, index), _ATTEMPTS)
        task = next((task for task in candidates if task.id not in tasks), None)
        if task is None:
            break
        tasks[task.id] = task
    return list(tasks.values())


def _candidates(settings: TrailSettings, split: str, seed: int, index: int) -> Iterator[Task]:
    """Yield tasks of the split, drawn with a random generator of this index's own."""
    rng = Random(derive_seed("trail", split, seed, index))
    while True:
        trail = draw_trail(settings, rng)
        digest = trail.digest
        if SPLITS[int(digest[-1], 16) % 2] == split:
            yield Task(
                id=f"trail-{digest[:16]}",
                instruction=trail.instruction,
                split=split,
                metadata=trail.to_metadata(),
            )


def draw_trail(settings: TrailSettings, rng: Random) -> Trail:
    """Draw one trail with its decoys."""
    kinds = _draw_kinds(settings, rng)
    ground = _Ground(settings, rng)
    ground.place_decoys()
    answer, way = ground.lay(kinds)
    ground.files[START] = ground.ways(way)
    return Trail(
        start=START,
        label=ground.label,
        output=OUTPUT,
        answer=answer,
        kinds=kinds,
        files=ground.files,
        archives=ground.archives,
        key=ground.key,
        crucial_chunk=_crucial_chunk(kinds) if "fork" in kinds and not settings.fork.open else None,
    )


def _draw_kinds(settings: TrailSettings, rng: Random) -> tuple[LaidKind, ...]:
    kinds: list[LaidKind] = [rng.choice(settings.kinds) for _ in range(rng.randint(*settings.step_bounds))]
    if settings.fork.at:
        kinds[settings.fork.at - 1] = "fork"
    return tuple(kinds)


def _crucial_chunk(kinds: tuple[LaidKind, ...]) -> int:
    """Return how many commands come before the one that reads the fork; the first reads the start."""
    commands: dict[LaidKind, int] = {"pointer": 1, "archive": 2, "compute": 2}
    return 1 + sum(commands[kind] for kind in kinds[: kinds.index("fork")])


class _Ground:
    """The folder while it is filled; hands out each name and each number once."""

    def __init__(self, settings: TrailSettings, rng: Random) -> None:
        self.files: dict[str, str] = {}
        self.archives: dict[str, Packed] = {}
        self._settings = settings
        self._rng = rng
        self.label, *self._wrong_labels = rng.sample(LABELS, len(LABELS))
        self._unused_labels: list[str] = []
        names = rng.sample(NAMES, len(NAMES))
        numbers = rng.sample(_NUMBERS, len(_NUMBERS))
        self._absent_names, self._names = names[:_ABSENT], names[_ABSENT:]
        self._absent_numbers, self._numbers = numbers[:_ABSENT], numbers[_ABSENT:]
        self._decoys: list[str] = []
        self.key = rng.choice(KEYS[: settings.fork.keys]) if settings.fork.at else ""

    def lay(self, kinds: tuple[LaidKind, ...]) -> tuple[str, str]:
        """Lay a trail of these kinds from its end; return the value there and what a way to its first file says."""
        value, way = self.end(computed=kinds[-1:] == ("compute",))
        arrivals = kinds[:-1] if kinds[-1:] == ("compute",) else kinds
        for place, kind in reversed(list(enumerate(arrivals))):
            way = self._place_fork(way, kinds[place + 1 :]) if kind == "fork" else self.place(kind, self.ways(way))
        return value, way

    def fresh_name(self) -> str:
        """Return a name that nothing else has."""
        return self._names.pop()

    def place(self, kind: StepKind, text: str) -> str:
        """Lay down a file that is reached by this kind of step; return what a way to it says."""
        if kind == "compute":
            number = self._numbers.pop()
            self.files[str(number)] = text
            return self._sum(number)
        name = self.fresh_name()
        if kind == "pointer":
            self.files[name] = text
            return f"{READ} {name}"
        self.archives[name] = Packed(member=self.fresh_name(), text=text)
        return f"{UNPACK} {name}"

    def _place_fork(self, way: str, behind: tuple[LaidKind, ...]) -> str:
        """Lay down a file that is read by a key; return what a way to it says.

        Unless it is open, only the right key leads on. Of the wrong trails one has a key to itself, as the right
        one has, and shares the others' look; so the file does not show which it is.
        """
        fork, name = self._settings.fork, self.fresh_name()
        ways: dict[str, str] = dict.fromkeys(KEYS[: fork.width], way)
        if not fork.open:
            wrong = self._rng.sample([key for key in ways if key != self.key], fork.width - 1)
            alone, others = (self.lay(behind)[1] for _ in range(2))
            ways |= dict.fromkeys(wrong, others) | {wrong[0]: alone}
        lines = [f"{key} {ways[key]}\n" for key in self._rng.sample(list(ways), len(ways))]
        self.files[name] = "".join(lines)
        return f"{CHOOSE} {name}"

    def place_decoys(self) -> None:
        """Lay down the decoys. Each leads to earlier ones only, so that no wrong way runs in a circle."""
        for _ in range(self._settings.distractors):
            if not self._decoys or self._rng.random() < _DECOY_ENDS:
                _, target = self.end(computed="compute" in self._settings.kinds and self._rng.random() < 0.5)
            else:
                target = self._wrong_target()
            self._decoys.append(self.place(self._rng.choice(self._settings.kinds), self.ways(target)))

    def end(self, *, computed: bool) -> tuple[str, str]:
        """Return a value of its own, and what a line says that ends a trail with it."""
        number = self._numbers.pop()
        return str(number), f"{VALUE} {self._sum(number) if computed else number}"

    def ways(self, target: str) -> str:
        """Return the text of a file with a way to the target, and wrong ones, in any order."""
        lines = [f"{self.label} {target}", *(f"{label} {self._wrong_target()}" for label in self._take_labels())]
        self._rng.shuffle(lines)
        return "\n".join(lines) + "\n"

    def _take_labels(self) -> list[str]:
        """Return wrong labels for one file; none comes twice before all have come, so that the right one stands out."""
        count = self._settings.branching - 1
        if len(self._unused_labels) < count:
            self._unused_labels = self._rng.sample(self._wrong_labels, len(self._wrong_labels))
        taken, self._unused_labels = self._unused_labels[:count], self._unused_labels[count:]
        return taken

    def _wrong_target(self) -> str:
        if self._decoys and self._rng.random() < _TO_DECOY:
            return self._rng.choice(self._decoys)
        if self._rng.random() < _TO_VALUE:
            return f"{VALUE} {self._rng.choice(self._absent_numbers)}"
        kind = self._rng.choice(self._settings.kinds)
        if kind == "compute":
            return self._sum(self._rng.choice(self._absent_numbers))
        return f"{READ if kind == 'pointer' else UNPACK} {self._rng.choice(self._absent_names)}"

    def _sum(self, number: int) -> str:
        """Write the number as a sum or a difference of two numbers from 1 to 99."""
        if self._rng.random() < 0.5:
            first = self._rng.randrange(1, number)
            return f"{COMPUTE} {first} plus {number - first}"
        second = self._rng.randrange(1, 100 - number)
        return f"{COMPUTE} {number + second} minus {second}"
