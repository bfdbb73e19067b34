"""What commands take where they are given no name: the declared default, the only one, or nothing."""

import pytest

from tumbler.errors import ComponentNotFoundError
from tumbler.plugins.defaults import default_component
from tumbler.specs import ComponentKind

PLUGIN = """
    from tumbler import hookimpl
    from tumbler.config import NoSettings
    from tumbler.specs import AgentSpec, BackendSpec


    def _config():
        return NoSettings


    def _load():
        raise ImportError("nothing here can be loaded")


    @hookimpl
    def tumbler_agents():
        return [
            AgentSpec(name=name, summary="Walk.", load=_load, config=_config, default=default)
            for name, default in {agents!r}
        ]


    @hookimpl
    def tumbler_backends():
        return [
            BackendSpec(
                name=name,
                summary="Serve.",
                load=_load,
                config=_config,
                roles=roles,
                default=bool(default),
                default_roles=default if isinstance(default, tuple) else None,
            )
            for name, roles, default in {backends!r}
        ]
"""


@pytest.fixture
def offer(site):
    """Return a function that adds a distribution whose plugin offers agents and backends."""

    def offer(distribution, plugin, *, agents=(), backends=()):
        module = PLUGIN.format(agents=list(agents), backends=list(backends))
        files = {f"{plugin}_plugin/__init__.py": "", f"{plugin}_plugin/plugin.py": module}
        site.add(distribution, "1.0", {plugin: f"{plugin}_plugin.plugin"}, files=files)

    return offer


def chosen(site, kind: ComponentKind = "agent", **more) -> str:
    return default_component(site.load(), kind, option="--agent NAME", **more).id


def test_the_only_one_is_taken(site, offer):
    offer("tumbler", "a", agents=[("walker", False)])
    assert chosen(site) == "walker"


def test_of_several_the_declared_default_is_taken(site, offer):
    offer("tumbler", "a", agents=[("walker", False), ("runner", True)])
    offer("tumbler-more", "more", agents=[("flyer", False)])
    assert chosen(site) == "runner"


def test_what_another_distribution_declares_changes_no_command(site, offer):
    offer("tumbler", "a", agents=[("walker", True)])
    offer("tumbler-more", "more", agents=[("flyer", True)])
    assert chosen(site) == "walker"


def test_another_distributions_default_counts_where_tumbler_declares_none(site, offer):
    offer("tumbler", "a", agents=[("walker", False)])
    offer("tumbler-more", "more", agents=[("flyer", True)])
    assert chosen(site) == "more/flyer"


def test_without_a_single_one_all_are_listed_with_the_option(site, offer):
    offer("tumbler", "a", agents=[("walker", False), ("runner", False)])
    with pytest.raises(ComponentNotFoundError, match=r"none is the default: runner, walker; choose .* --agent NAME"):
        chosen(site)
    offer("tumbler-b", "b", agents=[("flyer", True)])
    offer("tumbler-c", "c", agents=[("diver", True)])
    with pytest.raises(ComponentNotFoundError, match=r"2 .* declare themselves the default: b/flyer, c/diver"):
        chosen(site)


def test_where_there_is_none_that_is_said(site, offer):
    with pytest.raises(ComponentNotFoundError, match=r"installed: none.*--agent NAME"):
        chosen(site)


def test_only_what_fits_is_taken_and_a_default_that_does_not_fit_is_none(site, offer):
    offer("tumbler", "a", agents=[("walker", True), ("runner", False), ("flyer", False)])
    assert chosen(site, fits=lambda each: each.id == "runner") == "runner"
    with pytest.raises(ComponentNotFoundError, match="installed: flyer, runner, walker"):
        chosen(site, fits=lambda each: False)


def test_backends_are_chosen_within_a_role(site, offer):
    boxes = [("box", ("sandbox",), True), ("cell", ("sandbox", "gateway"), False), ("talk", ("chat",), True)]
    offer("tumbler", "a", backends=boxes)
    assert [chosen(site, "backend", role=role) for role in ("sandbox", "gateway", "chat")] == ["box", "cell", "talk"]


def test_a_backend_may_be_the_default_in_some_of_its_roles(site, offer):
    boxes = [("both", ("chat", "inference"), ("chat",)), ("engine", ("inference",), True)]
    offer("tumbler", "a", backends=boxes)
    assert [chosen(site, "backend", role=role) for role in ("chat", "inference")] == ["both", "engine"]


def test_default_roles_are_among_the_roles(site, offer):
    offer("tumbler-more", "more", backends=[("box", ("sandbox",), ("chat",))])
    (problem,) = site.load().check()
    assert "default_roles must be among the roles" in problem


def test_a_default_is_true_or_false(site, offer):
    offer("tumbler-more", "more", agents=[("flyer", "yes")])
    (problem,) = site.load().check()
    assert "default must be true or false, not 'yes'" in problem
