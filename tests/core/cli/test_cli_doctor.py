"""`tumbler doctor`: findings about the machine, plugins, packages and sandboxes."""

import json

import pytest

from tumbler.cli.main import main

SANDBOX = """
    from tumbler import hookimpl
    from tumbler.specs import BackendSpec


    def _load():
        from {package}_box import Box

        return Box


    def _config():
        from {package}_box import BoxSettings

        return BoxSettings


    @hookimpl
    def tumbler_backends():
        return [BackendSpec(name="box", summary="A box.", load=_load, config=_config, roles=("sandbox",), extra="box")]
"""

BOX = """
    from pathlib import Path

    {top}
    from tumbler.config import Settings


    class BoxSettings(Settings):
        {settings}


    class Box:
        capabilities = None
        closed = 0

        def __init__(self, settings):
            pass

        async def start(self):
            {start}

        async def create(self, spec):
            raise NotImplementedError

        async def close(self):
            Box.closed += 1
"""


def add_box(site, plugin, *, top="", settings="pass", start="pass"):
    site.add(
        f"{plugin}-dist",
        "1.0",
        {plugin: f"{plugin}_plugin"},
        files={
            f"{plugin}_plugin.py": SANDBOX.format(package=plugin),
            f"{plugin}_box.py": BOX.format(top=top, settings=settings, start=start).replace(
                "capabilities = None", "capabilities = 0"
            ),
        },
    )


@pytest.fixture
def doctor(site, tmp_path, capsys):
    """Run the doctor over the test's own distributions; return exit code and findings by topic and name."""

    def run(*distributions: str) -> tuple[int, dict[tuple[str, str], dict[str, object]]]:
        registry = tmp_path / "registry.toml"
        registry.write_text(f"[plugins]\nallow = {json.dumps(distributions)}\n")
        code = main(["doctor", "--json", "--registry", str(registry)])
        findings = json.loads(capsys.readouterr().out)
        return code, {(each["topic"], each["name"]): each for each in findings}

    return run


def test_machine_packages_and_plugins_are_reported(site, doctor):
    site.add_agent("tumbler-hiking", plugin="hiking")
    code, findings = doctor("tumbler-hiking")
    assert code == 0
    assert {name for topic, name in findings if topic == "machine"} == {
        "tumbler",
        "python",
        "platform",
        "cores",
        "memory",
    }
    assert findings["plugins", "loaded"]["ok"]
    extras = {name: each for (topic, name), each in findings.items() if topic == "optional packages"}
    assert {"train", "trl", "e2b"} <= extras.keys()
    assert not {"dev", "docs"} & extras.keys()
    for name, finding in extras.items():
        assert finding["ok"] or finding["detail"].endswith(f"pip install 'tumbler[{name}]'")


def test_a_broken_plugin_fails_the_doctor(site, doctor):
    site.add("bad-dist", "0.9", {"bad": "bad_plugin"}, files={"bad_plugin.py": "1 / 0"})
    code, findings = doctor("bad-dist")
    assert code == 1
    assert not findings["plugins", "loaded"]["ok"]
    assert "ZeroDivisionError" in findings["plugins", "problem"]["detail"]


def test_each_sandbox_backend_is_started_and_closed(site, doctor):
    add_box(site, "good")
    add_box(site, "broken", start="raise RuntimeError('no user namespaces')")
    add_box(site, "poor", top="import a_package_not_installed")
    add_box(site, "keyed", settings="api_key: str")
    code, findings = doctor("good-dist", "broken-dist", "poor-dist", "keyed-dist")
    assert code == 0
    told = {name: (each["ok"], each["detail"]) for (topic, name), each in findings.items() if topic == "sandboxes"}
    assert told["good/box"] == (True, "starts")
    assert told["broken/box"] == (False, "does not start: RuntimeError: no user namespaces")
    assert told["poor/box"][0] is False
    assert told["poor/box"][1].endswith("pip install 'poor-dist[box]'")
    assert told["keyed/box"][0] is False
    assert "api_key" in told["keyed/box"][1]
    import broken_box
    import good_box

    assert (good_box.Box.closed, broken_box.Box.closed) == (1, 1)


def test_a_machine_without_bubblewrap_is_told_so(site, doctor, monkeypatch):
    monkeypatch.setenv("PATH", str(site.folder))
    code, findings = doctor()
    assert code == 0
    assert findings["sandboxes", "bwrap"]["ok"] is False
    assert "not found" in findings["sandboxes", "bwrap"]["detail"]


def test_the_version_of_bubblewrap_is_told(site, doctor, monkeypatch):
    program = site.folder / "bwrap"
    program.write_text("#!/bin/sh\necho bubblewrap 9.9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{site.folder}:/bin:/usr/bin")
    _, findings = doctor()
    assert findings["sandboxes", "bwrap"] == {
        "topic": "sandboxes",
        "name": "bwrap",
        "ok": True,
        "detail": f"bubblewrap 9.9 ({program})",
    }


def test_a_bubblewrap_that_does_not_run_is_told(site, doctor, monkeypatch):
    program = site.folder / "bwrap"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{site.folder}:/bin:/usr/bin")
    _, findings = doctor()
    assert findings["sandboxes", "bwrap"]["ok"] is False
    assert "does not run" in findings["sandboxes", "bwrap"]["detail"]


def test_the_report_for_people_groups_findings_by_topic(site, tmp_path, capsys):
    registry = tmp_path / "registry.toml"
    registry.write_text("[plugins]\nallow = []\n")
    assert main(["doctor", "--registry", str(registry)]) == 0
    headings = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert headings == ["machine:", "plugins:", "optional packages:", "sandboxes:"]
