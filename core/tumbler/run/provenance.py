"""Who made a trajectory, and whether that is who the run trains: agent and context strategies, version and settings.

A policy learns to act through its scaffold; what another one made is another task. Knows no token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedComponent, ResolvedRun
from tumbler.trajectory import Component, Trajectory

__all__ = ["Makers", "component_of", "require_resumable"]


@dataclass(frozen=True, kw_only=True)
class Makers:
    """The agent and the context strategies, as headers of trajectories name them."""

    agent: Component
    context: tuple[Component, ...]

    @classmethod
    def of(cls, resolved: ResolvedRun, host: PluginHost) -> "Makers":
        """Return those that a run builds."""
        context = tuple(component_of(each, host) for each in resolved.context)
        return cls(agent=component_of(resolved.agent, host), context=context)

    def require(self, trajectory: Trajectory) -> None:
        """Raise `RunError` for a trajectory that others have made."""
        made = Makers(agent=trajectory.header.agent, context=trajectory.header.context)
        if made != self:
            raise RunError(
                f"trajectory {trajectory.id!r} was made by {made}, and the run trains {self}: what one scaffold does "
                "is no example for another. Go on with the settings and versions that the run began with, or start a "
                "new run"
            )

    def __str__(self) -> str:
        """Return all of them in words."""
        context = ", ".join(map(_told, self.context))
        return f"agent {_told(self.agent)} with {f'the context strategies {context}' if context else 'no strategy'}"


def component_of(component: ResolvedComponent, host: PluginHost) -> Component:
    """Return a component as it is built now: with the version that is loaded, whatever a run.json says."""
    _, version = host.versions().get(component.plugin, ("", component.version))
    return Component(id=component.id, version=version, settings_hash=component.settings_hash)


def require_resumable(resolved: ResolvedRun, host: PluginHost) -> None:
    """Raise `RunError` where the agent or a context strategy is of another version than when the run began."""
    changed = [
        f"{each.id} of {each.plugin!r} was {each.version} and is {now.version} now"
        for each in _components(resolved)
        if (now := component_of(each, host)).version != each.version
    ]
    if changed:
        raise RunError(
            f"the run cannot go on with another scaffold than it began with: {'; '.join(changed)}. Install the version "
            "that it began with, or start a new run"
        )


def _components(resolved: ResolvedRun) -> Sequence[ResolvedComponent]:
    return [resolved.agent, *resolved.context]


def _told(component: Component) -> str:
    return f"{component.id} {component.version} (settings {component.settings_hash})"
