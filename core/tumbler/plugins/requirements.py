"""Compares versions: those that a registry requires, and those that two processes have loaded."""

from collections.abc import Iterable, Mapping

__all__ = ["check_requirements", "compare_versions"]


def check_requirements(requirements: Iterable[str]) -> list[str]:
    """Return one problem for each requirement (`tumbler-minigrid>=0.4`) that the installation does not meet."""
    return [problem for requirement in requirements if (problem := _requirement_problem(requirement)) is not None]


def compare_versions(parent: Mapping[str, tuple[str, str]], own: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return how the plugins of this process differ from its parent's; none means that both agree.

    Both are what `PluginHost.versions` returned: plugin → (distribution, version).
    """
    problems = []
    for plugin in sorted({*parent, *own}):
        theirs, ours = parent.get(plugin), own.get(plugin)
        if theirs == ours:
            continue
        if ours is None:
            problems.append(f"plugin {plugin!r} ({_release(theirs)}) is loaded in the parent but not in this process")
        elif theirs is None:
            problems.append(f"plugin {plugin!r} ({_release(ours)}) is loaded in this process but not in the parent")
        else:
            problems.append(f"plugin {plugin!r} is {_release(theirs)} in the parent but {_release(ours)} here")
    return problems


def _release(release: tuple[str, str] | None) -> str:
    return " ".join(release or ())


def _requirement_problem(text: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        return f"{text!r} is not a requirement such as 'tumbler-minigrid>=0.4': {str(error).splitlines()[0]}"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{text!r} is required, but {requirement.name} is not installed; install it with: pip install {text!r}"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{text!r} is required, but {requirement.name} {installed} is installed; mend it with: pip install {text!r}"
