"""What sandbox a task gets: what it asks for, within what the settings allow."""

from dataclasses import fields

from tumbler.contracts.sandbox import NetworkPolicy, Resources, SandboxSpec
from tumbler_envs.terminal.settings import NetworkSettings, ResourceSettings, TerminalSettings
from tumbler_envs.terminal.task import TerminalTask

__all__ = ["spec_of", "verifier_network"]


def spec_of(task: TerminalTask, settings: TerminalSettings) -> SandboxSpec:
    """Return the sandbox with the task's files in it, but for their permissions."""
    return SandboxSpec(
        image=task.image,
        user=settings.user or task.user,
        workdir=task.workdir,
        env=task.env,
        resources=_resources(task.resources, settings.resources),
        network=_policy(settings.network, task.network),
        files={f"{task.workdir}/{path}": file.content for path, file in task.files.items()},
        ttl=settings.ttl,
        labels={"task": task.name},
        healthcheck=task.healthcheck,
    )


def verifier_network(task: TerminalTask, settings: TerminalSettings) -> NetworkPolicy | None:
    """Return what the tests may reach where that differs from what the agent may, else None."""
    asked = task.verifier_network or task.network
    policy = _policy(settings.verifier_network or settings.network, asked)
    return None if policy == _policy(settings.network, task.network) else policy


def _policy(settings: NetworkSettings, asked: NetworkPolicy) -> NetworkPolicy:
    if settings.mode == "task":
        return asked
    return NetworkPolicy(mode=settings.mode, hosts=settings.hosts, cidrs=settings.cidrs)


def _resources(asked: Resources, settings: ResourceSettings) -> Resources:
    limits = {field.name: getattr(asked, field.name) for field in fields(Resources)}
    return Resources(
        **{name: getattr(settings, name, None) if limit is None else limit for name, limit in limits.items()}
    )
