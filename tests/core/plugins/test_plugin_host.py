"""The host as a whole: real distributions, found, loaded, listed and refused."""

import sys
from importlib.metadata import EntryPoint

import pytest

from tumbler.errors import ComponentNotFoundError, PluginConflictError, PluginLoadError
from tumbler.plugins import PluginHost, compare_versions


def test_a_third_party_component_has_its_plugin_in_its_id(site):
    site.add_agent("tumbler-hiking", "0.3", plugin="hiking")
    host = site.load()
    (component,) = host.components("agent")
    assert (component.kind, component.id, component.plugin) == ("agent", "hiking/walker", "hiking")
    (info,) = host.plugins
    assert (info.name, info.distribution, info.version, info.status) == ("hiking", "tumbler-hiking", "0.3", "ok")
    assert info.value == "hiking_plugin.plugin"
    assert info.error is None
    assert info.seconds > 0
    assert info.hooks == ("tumbler_agents",)


@pytest.mark.parametrize("spelling", ["tumbler", "Tumbler"])
def test_only_the_cores_own_distribution_has_bare_ids(site, spelling):
    site.add_agent(spelling, plugin="hiking")
    site.add_agent("tumbler-more", plugin="more")
    assert [component.id for component in site.load().components()] == ["more/walker", "walker"]


def test_components_are_sorted_and_chosen_by_kind(site):
    site.add_agent("beta", plugin="zulu")
    site.add_agent("alpha", plugin="mike")
    site.add_agent("gamma", plugin="alfa")
    host = site.load()
    assert [component.id for component in host.components()] == ["alfa/walker", "mike/walker", "zulu/walker"]
    assert [info.name for info in host.plugins] == ["alfa", "mike", "zulu"]
    assert host.components("algorithm") == []


def test_one_name_from_two_distributions_is_refused_and_both_are_named(site):
    site.add_agent("first-dist", "1.1", plugin="hiking", package="first")
    site.add_agent("second-dist", "2.2", plugin="hiking", package="second")
    with pytest.raises(PluginConflictError) as caught:
        site.load()
    message = str(caught.value)
    assert "first-dist 1.1" in message
    assert "second-dist 2.2" in message
    assert "'hiking'" in message
    assert "first.plugin" not in sys.modules
    assert "second.plugin" not in sys.modules


def test_a_foreign_distribution_cannot_replace_a_first_party_plugin(site):
    site.add_agent("tumbler", "0.1.0", plugin="react", package="own")
    site.add_agent("impostor", "6.6", plugin="react", package="foreign")
    with pytest.raises(PluginConflictError, match=r"impostor 6\.6.*tumbler 0\.1\.0"):
        site.load()
    assert [component.id for component in site.load(allow=["tumbler"]).components()] == ["walker"]


def test_a_foreign_distribution_cannot_take_over_a_first_party_module(site):
    site.add_agent("tumbler", "0.1.0", plugin="react", package="own")
    site.add("impostor", "6.6", {"aaa": "own.plugin"})
    host = site.load()
    assert host.plugin("react").status == "ok"
    assert host.plugin("aaa").status == "failed"
    assert [component.id for component in host.components()] == ["walker"]


def test_one_name_listed_twice_by_one_distribution_is_refused(site):
    point = EntryPoint(name="twice", value="json", group="tumbler.v1")
    with pytest.raises(PluginConflictError, match="twice"):
        PluginHost.load(entry_points=[point, point])


def test_the_allow_list_applies_before_import_and_compares_normalised_names(site):
    site.add_agent("Good_Dist", plugin="good")
    site.add_agent("other-dist", plugin="other")
    host = site.load(allow=["good-dist"])
    assert [component.id for component in host.components()] == ["good/walker"]
    assert host.plugin("other").status == "not-allowed"
    assert "other_plugin.plugin" not in sys.modules
    with pytest.raises(ComponentNotFoundError, match="add 'other-dist' to `allow`"):
        host.component("agent", "other/walker")


def test_a_disabled_plugin_is_not_imported(site):
    site.add_agent("some-dist", plugin="hiking")
    host = site.load(disable=["hiking"])
    assert host.plugin("hiking").status == "disabled"
    assert host.components() == []
    assert "hiking_plugin.plugin" not in sys.modules
    with pytest.raises(ComponentNotFoundError, match="take 'hiking' out of `disable`"):
        host.component("agent", "hiking/walker")


def test_a_single_component_can_be_disabled(site):
    site.add_agent("some-dist", plugin="hiking")
    host = site.load(disable=["hiking/walker"])
    assert host.plugin("hiking").status == "ok"
    assert host.components() == []
    assert host.check() == []
    with pytest.raises(ComponentNotFoundError, match="take 'hiking/walker' out of `disable`"):
        host.component("agent", "hiking/walker")


def test_a_first_party_component_is_disabled_by_plugin_and_name(site):
    site.add_agent("tumbler", plugin="react")
    host = site.load(disable=["react/walker"])
    with pytest.raises(ComponentNotFoundError, match="take 'react/walker' out"):
        host.component("agent", "walker")


def test_entries_of_the_lists_that_name_nothing_are_problems(site):
    site.add_agent("some-dist", plugin="hiking")
    problems = site.load(allow=["some-dist", "som-dist"], disable=["hikin", "hiking/runner"]).check()
    assert len(problems) == 3
    assert "'som-dist'" in problems[0]
    assert "Did you mean 'some-dist'?" in problems[0]
    assert "'hikin'" in problems[1]
    assert "'hiking/runner'" in problems[2]


def test_an_entry_that_names_a_component_of_an_unloaded_plugin_is_let_be(site):
    site.add("bad-dist", "1.0", {"bad": "bad_plugin"}, files={"bad_plugin.py": "1 / 0"})
    (problem,) = site.load(disable=["bad/thing"]).check()
    assert "ZeroDivisionError" in problem


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import a_module_that_is_nowhere", "a_module_that_is_nowhere"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_a_plugin_that_fails_to_import_stops_no_other(site, source, said):
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files={"bad_plugin.py": source})
    site.add_agent("good-dist", plugin="good")
    host = site.load()
    assert [component.id for component in host.components()] == ["good/walker"]
    info = host.plugin("bad")
    assert info.status == "failed"
    assert said in str(info.error)
    (problem,) = host.check()
    assert "plugin 'bad' (bad-dist 0.9)" in problem
    assert said in problem


def test_a_failure_is_loud_at_use(site):
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files={"bad_plugin.py": "1 / 0"})
    with pytest.raises(PluginLoadError, match=r"agent 'bad/walker'.*plugin 'bad' \(bad-dist 0\.9\).*division by zero"):
        site.load().component("agent", "bad/walker")


def test_a_missing_first_party_component_names_the_first_party_plugins_that_failed(site):
    site.add("tumbler", "0.1.0", {"bad": "bad_plugin"}, files={"bad_plugin.py": "1 / 0"})
    site.add("foreign", "0.1.0", {"worse": "worse_plugin"}, files={"worse_plugin.py": "1 / 0"})
    with pytest.raises(ComponentNotFoundError, match=r"not loaded: plugin 'bad' \(tumbler 0\.1\.0\)") as caught:
        site.load().component("agent", "walker")
    assert "worse" not in str(caught.value)


def test_strict_mode_raises_the_first_failure(site, monkeypatch):
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files={"bad_plugin.py": "1 / 0"})
    monkeypatch.setenv("TUMBLER_STRICT_PLUGINS", "0")
    assert site.load().plugin("bad").status == "failed"
    monkeypatch.setenv("TUMBLER_STRICT_PLUGINS", "1")
    with pytest.raises(PluginLoadError, match=r"plugin 'bad' \(bad-dist 0\.9\)"):
        site.load()


@pytest.mark.parametrize("name", ["Upper", "under_score", "two--hyphens", "-edge", "1st"])
def test_a_plugin_with_an_ill_formed_name_fails(site, name):
    site.add("odd-dist", "1.0", {name: "json"})
    (info,) = site.load().plugins
    assert info.status == "failed"
    assert "lower-case words joined by hyphens" in str(info.error)


@pytest.mark.parametrize("name", ["tumbler", "core", "none"])
def test_reserved_names_cannot_be_taken(site, name):
    site.add("odd-dist", "1.0", {name: "json"})
    (info,) = site.load().plugins
    assert info.status == "failed"
    assert "for itself" in str(info.error)


def test_an_entry_point_must_name_a_module(site):
    site.add("odd-dist", "1.0", {"odd": "json:dumps"})
    (info,) = site.load().plugins
    assert "must name a module" in str(info.error)


def test_two_first_party_plugins_cannot_offer_one_component(site):
    site.add("tumbler", "0.1.0", {"one": "first.plugin", "two": "second.plugin"})
    site.add_agent("unrelated", plugin="first", package="first")
    site.add_agent("unrelated-too", plugin="second", package="second")
    with pytest.raises(PluginConflictError, match=r"agent 'walker' is offered by the plugins 'one' and 'two'"):
        site.load(allow=["tumbler"])
    assert [each.plugin for each in site.load(allow=["tumbler"], disable=["two/walker"]).components()] == ["one"]


@pytest.mark.parametrize(("group", "mend"), [("tumbler.v2", "--upgrade tumbler"), ("tumbler.v0", "--upgrade elder")])
def test_a_plugin_of_another_api_version_is_named_but_not_imported(site, group, mend):
    site.add("elder", "0.2", {"old": "old_plugin"}, files={"old_plugin.py": "1 / 0"}, group=group)
    host = site.load()
    info = host.plugin("old")
    assert (info.status, info.group) == ("other-major", group)
    assert host.check() == [str(info.error)]
    for said in (group, "tumbler.v1", "elder 0.2", mend):
        assert said in str(info.error)
    with pytest.raises(PluginLoadError, match=group):
        host.component("agent", "old/walker")


def test_a_plugin_that_serves_several_api_versions_is_listed_once(site):
    site.add_agent("both", plugin="hiking")
    entry_points = site.folder / "both-1.0.dist-info" / "entry_points.txt"
    text = entry_points.read_text()
    entry_points.write_text(text + text.replace("tumbler.v1", "tumbler.v2"))
    assert [info.status for info in site.load().plugins] == ["ok"]


def test_groups_that_only_look_alike_are_not_plugins(site):
    site.add("other", "1.0", {"thing": "json"}, group="tumbler.v1.extra")
    site.add("another", "1.0", {"thing": "json"}, group="xtumbler.v1")
    assert site.load().plugins == ()


def test_without_entry_points_all_installed_distributions_are_searched(site):
    site.add_agent("tumbler-hiking", plugin="hiking")
    names = {info.name for info in PluginHost.load().plugins}
    assert {"hiking", "ipa", "react"} <= names


def test_an_entry_point_without_a_distribution_loads(site):
    site.add_agent("unused", plugin="hiking")
    host = PluginHost.load(entry_points=[EntryPoint("bare", "hiking_plugin.plugin", "tumbler.v1")])
    assert [component.id for component in host.components()] == ["bare/walker"]


def test_unknown_components_get_suggestions(site):
    site.add_agent("tumbler-hiking", plugin="hiking")
    host = site.load()
    with pytest.raises(ComponentNotFoundError, match="Did you mean 'hiking/walker'"):
        host.component("agent", "hiking/waker")
    with pytest.raises(ComponentNotFoundError, match="Did you mean 'hiking/walker'"):
        host.component("agent", "walker")
    with pytest.raises(ComponentNotFoundError, match="as: agent"):
        host.component("algorithm", "hiking/walker")
    with pytest.raises(ComponentNotFoundError, match="reinstall"):
        host.component("agent", "new-one/walker")
    with pytest.raises(ComponentNotFoundError, match="Did you mean 'hiking'"):
        host.plugin("hikin")


def test_a_first_party_component_asked_for_with_a_prefix_is_explained(site):
    site.add_agent("tumbler", plugin="react")
    with pytest.raises(ComponentNotFoundError, match="write 'walker'"):
        site.load().component("agent", "react/walker")


def test_a_message_names_at_most_ten_candidates(site):
    for number in range(14):
        site.add_agent(f"dist-{number}", plugin=f"plugin-x{number}")
    with pytest.raises(ComponentNotFoundError) as caught:
        site.load().component("agent", "walker")
    assert str(caught.value).count("/walker'") == 10


def test_versions_name_what_is_loaded_and_can_be_compared(site):
    site.add_agent("tumbler-hiking", "0.3", plugin="hiking")
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files={"bad_plugin.py": "1 / 0"})
    parent = site.load().versions()
    assert parent == {"hiking": ("tumbler-hiking", "0.3")}
    assert compare_versions(parent, parent) == []
