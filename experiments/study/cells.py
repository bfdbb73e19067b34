"""The runs of a study: one cell for each condition, arm and seed. Knows neither how they run nor what they show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Arm", "Cell", "Condition", "cross"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the things that are compared."""

    name: str
    overrides: tuple[str, ...] = ()
    """Of the registry, as `tumbler run --set` takes them."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One of the circumstances under which all arms are compared."""

    name: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run."""

    run: str
    """The run's name in the registry."""
    condition: str
    arm: str
    seed: int
    overrides: tuple[str, ...] = field(default=())

    def folder(self, root: Path) -> Path:
        """Return the run's folder under the study's."""
        return root / self.condition / self.arm / str(self.seed)


def cross(
    run: str,
    conditions: Iterable[Condition],
    arms: Iterable[Arm],
    seeds: Iterable[int],
    *,
    per_seed: Mapping[int, tuple[str, ...]] | None = None,
) -> list[Cell]:
    """Return a cell for every combination, seed by seed, so that an unfinished study has whole seeds.

    Args:
        run: the registry's run that all of them are variants of.
        conditions: applied first.
        arms: applied after the condition, so that they win.
        seeds: each gives the run its seed.
        per_seed: seed → overrides of its own, such as the model that it starts from.
    """
    arms, conditions = list(arms), list(conditions)
    return [
        Cell(
            run=run,
            condition=condition.name,
            arm=arm.name,
            seed=seed,
            overrides=(*condition.overrides, *arm.overrides, *(per_seed or {}).get(seed, ())),
        )
        for seed in seeds
        for condition in conditions
        for arm in arms
    ]
