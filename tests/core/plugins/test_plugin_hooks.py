"""Hook implementations: what is refused, what the message says, and that nothing is left behind."""

import pytest

SPEC = """
    from tumbler.specs import AgentSpec, AlgorithmSpec, BackendSpec


    def _spec(kind, **changes):
        fields = {"name": "thing", "summary": "A thing.", "load": dict, "config": dict} | changes
        return kind(**fields)
"""

REFUSED = {
    "a misspelt hook": (
        """
    @hookimpl
    def tumbler_agnets():
        return []
""",
        ["'tumbler_agnets'", "tumbler_agents"],
    ),
    "a default argument": (
        """
    @hookimpl
    def tumbler_run_started(run=None):
        pass
""",
        ["tumbler_run_started", "'run'", "default"],
    ),
    "a default argument of a keyword": (
        """
    @hookimpl
    def tumbler_run_started(*, run=None):
        pass
""",
        ["tumbler_run_started", "'run'", "default"],
    ),
    "an unknown argument": (
        """
    @hookimpl
    def tumbler_run_started(runn):
        pass
""",
        ["tumbler_run_started", "'runn'", "run"],
    ),
    "an argument where the hook has none": (
        """
    @hookimpl
    def tumbler_agents(host):
        return []
""",
        ["tumbler_agents", "'host'", "takes none"],
    ),
    "star arguments": (
        """
    @hookimpl
    def tumbler_run_started(**event):
        pass
""",
        ["tumbler_run_started", "'event'", "plain"],
    ),
    "a wrapper": (
        """
    @hookimpl(wrapper=True)
    def tumbler_agents():
        return (yield)
""",
        ["tumbler_agents", "wrapper"],
    ),
    "an async function": (
        """
    @hookimpl
    async def tumbler_run_started(run):
        pass
""",
        ["tumbler_run_started", "async"],
    ),
    "a hook without the mark": (
        """
    def tumbler_agents():
        return []


    @hookimpl
    def tumbler_algorithms():
        return []
""",
        ["tumbler_agents", "@hookimpl"],
    ),
    "no hook at all": ("", ["odd_plugin implements no hook", "@hookimpl"]),
    "a misspelt hook by another name": (
        """
    @hookimpl(specname="tumbler_envs")
    def environments():
        return []
""",
        ["'tumbler_envs'"],
    ),
    "a hook that raises": (
        """
    @hookimpl
    def tumbler_agents():
        raise RuntimeError("out of ideas")
""",
        ["hook tumbler_agents", "RuntimeError", "out of ideas"],
    ),
    "a generator that raises late": (
        """
    @hookimpl
    def tumbler_agents():
        yield _spec(AgentSpec)
        raise RuntimeError("out of ideas")
""",
        ["hook tumbler_agents", "out of ideas"],
    ),
    "None instead of a list": (
        """
    @hookimpl
    def tumbler_agents():
        pass
""",
        ["hook tumbler_agents", "NoneType"],
    ),
    "something that is no spec": (
        """
    @hookimpl
    def tumbler_agents():
        return ["walker"]
""",
        ["hook tumbler_agents", "AgentSpec", "'walker'"],
    ),
    "the spec of another kind": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AlgorithmSpec)]
""",
        ["hook tumbler_agents", "AgentSpec", "AlgorithmSpec"],
    ),
    "an ill-formed name": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AgentSpec, name="Big_Walker")]
""",
        ["'Big_Walker'", "lower-case words"],
    ),
    "a blank summary": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AgentSpec, summary=" ")]
""",
        ["summary"],
    ),
    "a load that cannot be called": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AgentSpec, load="my_package.agent:Walker")]
""",
        ["load must be a function"],
    ),
    "an extra that is no name": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AgentSpec, extra=("a", "b"))]
""",
        ["extra"],
    ),
    "an unknown role": (
        """
    @hookimpl
    def tumbler_backends():
        return [_spec(BackendSpec, roles=("sandboxes",))]
""",
        ["roles", "'sandboxes'", "sandbox, inference, training, execution"],
    ),
    "no role": (
        """
    @hookimpl
    def tumbler_backends():
        return [_spec(BackendSpec, roles=())]
""",
        ["roles must name at least one"],
    ),
    "a role that is not in a tuple": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AgentSpec, needs="sandbox")]
""",
        ["needs must be a tuple"],
    ),
    "one name twice": (
        """
    @hookimpl
    def tumbler_agents():
        return [_spec(AgentSpec), _spec(AgentSpec)]
""",
        ["tumbler_agents", "'thing' twice"],
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_plugin_is_refused_with_a_message_that_names_the_fault(one_plugin, fault):
    source, said = REFUSED[fault]
    host = one_plugin(SPEC + source)
    info = host.plugin("odd")
    assert info.status == "failed"
    for words in said:
        assert words in str(info.error)
    assert "plugin 'odd' (odd-dist 2.0)" in host.check()[0]


@pytest.mark.parametrize("fault", sorted(REFUSED.keys() - {"no hook at all"}))
def test_a_faulty_plugin_leaves_no_trace(one_plugin, fault):
    good = """
    @hookimpl
    def tumbler_run_finished():
        return "heard"
"""
    source, _ = REFUSED[fault]
    host = one_plugin(SPEC + source + good)
    assert host.plugin("odd").status == "failed"
    assert host.components() == []
    assert host.versions() == {}
    assert host.observers.collect("tumbler_run_finished", run=None, result={}) == []


def test_all_faults_of_a_plugin_are_told_at_once(one_plugin):
    host = one_plugin(REFUSED["a default argument"][0] + REFUSED["a misspelt hook"][0])
    assert "default" in str(host.plugin("odd").error)
    assert "tumbler_agnets" in str(host.plugin("odd").error)


def test_an_optional_hook_of_a_newer_minor_version_is_accepted(one_plugin):
    host = one_plugin(
        """
    @hookimpl(optionalhook=True)
    def tumbler_hook_of_tomorrow(whatever):
        pass


    @hookimpl
    def tumbler_run_finished(result):
        return "heard"
"""
    )
    assert host.plugin("odd").status == "ok"
    assert host.check() == []
    assert host.observers.collect("tumbler_run_finished", run=None, result={}) == [("odd", "heard")]


def test_one_name_may_be_used_once_in_each_kind(one_plugin):
    host = one_plugin(
        SPEC
        + """
    @hookimpl
    def tumbler_agents():
        return (_spec(kind) for kind in [AgentSpec])


    @hookimpl
    def tumbler_algorithms():
        return [_spec(AlgorithmSpec)]
"""
    )
    assert [(each.kind, each.id) for each in host.components()] == [("agent", "odd/thing"), ("algorithm", "odd/thing")]


def test_one_module_under_two_names_is_refused_the_second_time(site):
    site.add_agent("some-dist", plugin="hiking")
    site.add("copy-dist", "1.0", {"later": "hiking_plugin.plugin"})
    host = site.load()
    assert host.plugin("hiking").status == "ok"
    assert "already registered" in str(host.plugin("later").error)
    assert host.observers.collect("tumbler_report", folder=site.folder) == []
