"""Components are loaded late, checked against their contract, and failures say what to do."""

import pytest

from tumbler.config import NoSettings
from tumbler.errors import (
    CapabilityError,
    ComponentNotFoundError,
    ContractError,
    MissingExtraError,
    PluginLoadError,
    RegistryError,
)

BACKEND_PLUGIN = """
    from tumbler import hookimpl
    from tumbler.specs import BackendSpec


    def _load():
        from engine_plugin.engine import Engine

        return Engine


    def _config():
        from tumbler.config import NoSettings

        return NoSettings


    @hookimpl
    def tumbler_backends():
        return [BackendSpec(name="engine", summary="Serve.", load=_load, config=_config, roles={roles!r})]
"""

ENGINE = """
    class Engine:
        def __init__(self, settings):
            pass

        async def start(self, model):
            pass

        @property
        def tokenizer(self):
            raise RuntimeError("start first")

        async def generate(self, request):
            pass

        async def release(self, session):
            pass

        async def update_weights(self, update):
            pass

        def metrics(self):
            return {}

        async def close(self):
            pass
"""


def agent_module(body: str, *, top: str = "", init: str = "pass") -> str:
    return f"""
    {top}
    from tumbler.config import Settings


    class WalkerSettings(Settings):
        stride: int = 1
        pace: float = 1.0


    class Walker:
        def __init__(self, settings):
            {init}

        {body}
"""


RUN = "async def run(self, episode): pass"


def add_engine(site, roles, source=ENGINE):
    site.add(
        "engine-dist",
        "1.0",
        {"motor": "engine_plugin.plugin"},
        files={
            "engine_plugin/__init__.py": "",
            "engine_plugin/plugin.py": BACKEND_PLUGIN.format(roles=roles),
            "engine_plugin/engine.py": source,
        },
    )


def test_a_component_is_built_from_a_mapping(site):
    site.add_agent("some-dist", plugin="hiking")
    agent = site.load().build("agent", "hiking/walker", {"stride": 3})
    assert agent.settings.stride == 3


def test_a_component_is_built_from_an_instance_of_its_settings(site):
    site.add_agent("some-dist", plugin="hiking")
    host = site.load()
    model = host.settings_model("agent", "hiking/walker")
    settings = model(stride=2)
    assert host.build("agent", "hiking/walker", settings).settings is settings


def test_settings_of_another_class_are_refused(site):
    site.add_agent("some-dist", plugin="hiking")
    with pytest.raises(ContractError, match="WalkerSettings"):
        site.load().build("agent", "hiking/walker", NoSettings())


def test_wrong_settings_are_all_listed_with_suggestions(site):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module(RUN))
    with pytest.raises(RegistryError) as caught:
        site.load().build("agent", "hiking/walker", {"strid": 3, "pace": "fast"})
    message = str(caught.value)
    assert "agent 'hiking/walker' of plugin 'hiking' (some-dist 1.0)" in message
    assert "Did you mean 'stride'?" in message
    assert "pace: " in message


def test_an_object_that_lacks_members_is_refused(site):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module("async def walk(self, episode): pass"))
    with pytest.raises(ContractError) as caught:
        site.load().build("agent", "hiking/walker", {})
    for said in ("agent 'hiking/walker'", "plugin 'hiking'", "tumbler.contracts.agent.Agent", "lacks: run"):
        assert said in str(caught.value)


def test_a_value_in_the_place_of_a_method_is_refused(site):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module("run = 3"))
    with pytest.raises(ContractError, match=r"run \(must be a method\)"):
        site.load().build("agent", "hiking/walker", {})


def test_a_property_that_fails_before_start_does_not_fail_the_check(site):
    add_engine(site, ("inference",))
    assert type(site.load().build("backend", "motor/engine", {})).__name__ == "Engine"


def test_a_backend_is_checked_for_each_of_its_roles(site):
    add_engine(site, ("inference", "sandbox"))
    with pytest.raises(ContractError, match=r"contracts\.sandbox\.SandboxBackend; it lacks: capabilities, create"):
        site.load().build("backend", "motor/engine", {})


def test_a_method_in_the_place_of_a_property_is_refused(site):
    add_engine(site, ("inference",), ENGINE.replace("@property", ""))
    with pytest.raises(ContractError, match=r"tokenizer \(must be a property\)"):
        site.load().build("backend", "motor/engine", {})


def test_a_missing_package_ends_in_the_command_that_installs_the_extra(site):
    source = agent_module(RUN, top="import a_package_not_installed.inner")
    site.add_agent("tumbler", plugin="react", agent=source, extra="trl")
    site.add_agent("Tumbler.Hiking", plugin="hiking", agent=source, extra="boots")
    host = site.load()
    with pytest.raises(MissingExtraError) as caught:
        host.build("agent", "walker", {})
    assert "needs the package 'a_package_not_installed'" in str(caught.value)
    assert str(caught.value).endswith("pip install 'tumbler[trl]'")
    with pytest.raises(MissingExtraError) as caught:
        host.settings_model("agent", "hiking/walker")
    assert str(caught.value).endswith("pip install 'Tumbler.Hiking[boots]'")


def test_without_an_extra_the_command_installs_the_distribution_again(site):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module(RUN, top="import a_package_not_installed"))
    with pytest.raises(MissingExtraError, match=r"pip install 'some-dist'$"):
        site.load().build("agent", "hiking/walker", {})


def test_a_package_that_is_missing_when_the_object_is_made_is_a_missing_extra_too(site):
    source = agent_module(RUN, init="import a_package_not_installed")
    site.add_agent("some-dist", plugin="hiking", agent=source, extra="boots")
    with pytest.raises(MissingExtraError, match=r"pip install 'some-dist\[boots\]'$"):
        site.load().build("agent", "hiking/walker", {})


def test_a_module_that_the_installed_package_does_not_have_asks_for_an_upgrade(site):
    source = agent_module(RUN, top="import packaging.from_the_future")
    site.add_agent("some-dist", plugin="hiking", agent=source, extra="boots")
    with pytest.raises(
        MissingExtraError, match=r"'packaging\.from_the_future'.*pip install --upgrade 'some-dist\[boots\]'"
    ):
        site.load().build("agent", "hiking/walker", {})


@pytest.mark.parametrize("module", ["hiking_plugin.boots", "tumbler.nothing_here"])
def test_a_module_of_the_plugin_or_the_core_is_no_missing_extra(site, module):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module(RUN, top=f"import {module}"), extra="boots")
    with pytest.raises(PluginLoadError, match=f"agent 'hiking/walker'.*{module}"):
        site.load().build("agent", "hiking/walker", {})


def test_any_other_failure_to_load_names_the_component_and_the_plugin(site):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module(RUN, top="1 / 0"))
    with pytest.raises(PluginLoadError, match=r"'hiking/walker' of plugin 'hiking' \(some-dist 1\.0\).*ZeroDivision"):
        site.load().build("agent", "hiking/walker", {})


def test_an_error_of_tumblers_own_passes_through(site):
    source = agent_module(RUN, top="from tumbler.errors import CapabilityError", init="raise CapabilityError('no vm')")
    site.add_agent("some-dist", plugin="hiking", agent=source)
    with pytest.raises(CapabilityError, match=r"^no vm$"):
        site.load().build("agent", "hiking/walker", {})


def test_config_must_return_a_settings_class(site):
    site.add_agent("some-dist", plugin="hiking")
    path = "hiking_plugin/agent.py"
    site.write(path, (site.folder / path).read_text().replace("(Settings)", ""))
    with pytest.raises(ContractError, match=r"must return a subclass of tumbler\.config\.Settings"):
        site.load().settings_model("agent", "hiking/walker")


def test_load_must_return_a_class(site):
    site.add_agent("some-dist", plugin="hiking", agent=agent_module(RUN) + "\n\n    Walker = Walker(None)\n")
    with pytest.raises(ContractError, match="`load` must return a class"):
        site.load().build("agent", "hiking/walker", {})


def test_what_nobody_offers_cannot_be_built(site):
    with pytest.raises(ComponentNotFoundError):
        site.load().build("agent", "walker", {})
