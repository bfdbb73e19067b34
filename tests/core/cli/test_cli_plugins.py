"""`tumbler plugins`: the listing, the check, and the answers to why."""

import json

import pytest

from tumbler.cli.main import main

BAD = {"bad_plugin.py": "raise RuntimeError('a bad day')"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in a folder without a registry."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def only(*distributions: str) -> str:
    return f"[plugins]\nallow = {json.dumps(distributions)}\n"


def test_the_listing_names_each_plugin_with_what_it_offers(site, capsys):
    site.add_agent("tumbler-hiking", "0.3", plugin="hiking")
    assert main(["plugins"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["PLUGIN", "DISTRIBUTION", "STATUS", "OFFERS"]
    assert ["hiking", "tumbler-hiking", "0.3", "ok", "agent", "hiking/walker"] in rows


def test_a_plugin_that_only_observes_is_listed_as_such(site, capsys):
    source = "from tumbler import hookimpl\n\n\n@hookimpl\ndef tumbler_run_started(run): pass\n"
    site.add("watcher", "1.0", {"watch": "watch_plugin"}, files={"watch_plugin.py": source})
    main(["plugins"])
    assert any(
        line.split() == ["watch", "watcher", "1.0", "ok", "observer"] for line in capsys.readouterr().out.splitlines()
    )


def test_failures_are_listed_and_only_the_check_exits_with_1(site, capsys):
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files=BAD)
    assert main(["plugins"]) == 0
    assert "plugin 'bad' (bad-dist 0.9) failed to load" in capsys.readouterr().out
    assert main(["plugins", "--check"]) == 1
    assert "a bad day" in capsys.readouterr().out


def test_the_check_passes_when_nothing_is_wrong(site, elsewhere, capsys):
    site.add_agent("tumbler-hiking", plugin="hiking")
    (elsewhere / "registry.toml").write_text(only("tumbler-hiking"))
    assert main(["plugins", "--check"]) == 0
    assert "problem" not in capsys.readouterr().out


def test_the_check_covers_requirements(site, elsewhere, capsys):
    site.add_agent("tumbler-hiking", "0.3", plugin="hiking")
    (elsewhere / "registry.toml").write_text(only("tumbler-hiking") + 'require = ["tumbler-hiking>=0.4"]\n')
    assert main(["plugins", "--check"]) == 1
    assert "tumbler-hiking 0.3 is installed" in capsys.readouterr().out


def test_a_registry_can_be_named(site, tmp_path, capsys):
    site.add_agent("tumbler-hiking", plugin="hiking")
    registry = tmp_path / "other.toml"
    registry.write_text('[plugins]\ndisable = ["hiking"]\n[runs.broken]\nthis = "does not matter here"\n')
    main(["plugins", "--registry", str(registry)])
    assert any(
        line.split()[:4] == ["hiking", "tumbler-hiking", "1.0", "disabled"]
        for line in capsys.readouterr().out.splitlines()
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("plugins = 3", "plugins must be a table"),
        ("[plugins]\nallow = 'tumbler'", "plugins.allow must be a list of strings, not 'tumbler'"),
        ("[plugins]\ndisable = [3]", "plugins.disable must be a list of strings"),
        ("[plugins", "is not TOML"),
        (None, "cannot be read"),
    ],
)
def test_lists_that_cannot_be_read_are_an_error(tmp_path, content, said, capsys):
    registry = tmp_path / "bad.toml"
    if content is not None:
        registry.write_text(content)
    assert main(["plugins", "--registry", str(registry)]) == 1
    message = capsys.readouterr().err
    assert said in message
    assert str(registry) in message


def test_json_holds_all_that_is_known(site, capsys):
    site.add_agent("tumbler-hiking", "0.3", plugin="hiking", extra="boots")
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files=BAD)
    assert main(["plugins", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    plugins = {each["name"]: each for each in record["plugins"]}
    hiking = plugins["hiking"]
    assert hiking.pop("seconds") > 0
    assert hiking == {
        "name": "hiking",
        "distribution": "tumbler-hiking",
        "version": "0.3",
        "value": "hiking_plugin.plugin",
        "group": "tumbler.v1",
        "status": "ok",
        "error": None,
        "hooks": ["tumbler_agents"],
        "components": [
            {
                "kind": "agent",
                "id": "hiking/walker",
                "summary": "Walk.",
                "extra": "boots",
                "needs": [],
                "default": False,
                "roles": [],
            }
        ],
    }
    assert plugins["bad"]["status"] == "failed"
    assert "a bad day" in plugins["bad"]["error"]
    assert any("a bad day" in problem for problem in record["problems"])


def test_a_conflict_is_an_error_that_names_both(site, capsys):
    site.add_agent("first-dist", "1.1", plugin="hiking", package="first")
    site.add_agent("second-dist", "2.2", plugin="hiking", package="second")
    assert main(["plugins"]) == 1
    assert "first-dist 1.1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["hiking", "hiking/walker", "tumbler-hiking", "Tumbler_Hiking"])
def test_why_explains_what_is_there(site, name, capsys):
    site.add_agent("tumbler-hiking", "0.3", plugin="hiking", extra="boots")
    assert main(["plugins", "why", name]) == 0
    text = capsys.readouterr().out
    assert "tumbler-hiking 0.3" in text
    if name == "hiking/walker":
        assert "agent hiking/walker: Walk." in text
        assert "pip install 'tumbler-hiking[boots]'" in text
    else:
        assert "hiking = hiking_plugin.plugin in the group tumbler.v1" in text


@pytest.mark.parametrize("name", ["bad", "bad/thing", "bad-dist"])
def test_why_tells_the_error_of_a_failed_plugin(site, name, capsys):
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files=BAD)
    assert main(["plugins", "why", name]) == 1
    assert "RuntimeError: a bad day" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "name", "said"),
    [
        ('disable = ["hiking"]', "hiking", "take 'hiking' out of `disable`"),
        ('disable = ["hiking/walker"]', "hiking/walker", "take 'hiking/walker' out of `disable`"),
        ('allow = ["tumbler"]', "hiking", "add 'tumbler-hiking' to `allow`"),
        ('allow = ["tumbler"]', "hiking/walker", "add 'tumbler-hiking' to `allow`"),
    ],
)
def test_why_tells_which_list_keeps_a_plugin_out(site, elsewhere, table, name, said, capsys):
    site.add_agent("tumbler-hiking", plugin="hiking")
    (elsewhere / "registry.toml").write_text(f"[plugins]\n{table}\n")
    assert main(["plugins", "why", name]) == 1
    assert said in capsys.readouterr().out


def test_why_names_another_api_version(site, capsys):
    site.add("elder", "0.2", {"old": "old_plugin"}, group="tumbler.v0")
    assert main(["plugins", "why", "old"]) == 1
    assert "written for the plugin API tumbler.v0" in capsys.readouterr().out


def test_why_suggests_names_and_a_reinstall_for_what_is_not_there(site, capsys):
    site.add_agent("tumbler-hiking", plugin="hiking")
    assert main(["plugins", "why", "hikin"]) == 1
    text = capsys.readouterr().out
    assert "Did you mean 'hiking'" in text
    assert "reinstall" in text


def test_why_finds_a_plugin_that_was_declared_after_the_installation(site, tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[project]\nname = "tumbler-hiking"\n[project.entry-points."tumbler.v1"]\nhiking = "a"\nrowing = "b"\n'
    )
    info = site.add("tumbler-hiking", "1.0", {"hiking": "a"})
    (info / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    assert main(["plugins", "why", "rowing"]) == 1
    assert f"reinstall it with: pip install -e '{source}'" in capsys.readouterr().out


def test_why_needs_a_name(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["plugins", "why"])
    assert caught.value.code == 2
    assert "why needs a NAME" in capsys.readouterr().err
