"""The command line as a whole: choosing a command, exit codes, and what is imported."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from tumbler import __version__
from tumbler.cli import main as cli
from tumbler.errors import RegistryError

HEAVY = {"torch", "transformers", "pydantic", "numpy", "rich"}


def modules_after(arguments: list[str], folder: Path) -> set[str]:
    script = (
        "import json, sys\n"
        "from tumbler.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(json.loads(answer.stdout.splitlines()[-1]))


@pytest.fixture
def command(monkeypatch):
    """Replace the command `plugins` by one that does what the test says."""

    class Command:
        action = staticmethod(lambda args: 0)

        @staticmethod
        def add_arguments(parser):
            parser.add_argument("--number", type=int, default=0)

        @classmethod
        def run(cls, args: Namespace) -> int:
            return cls.action(args)

    monkeypatch.setitem(sys.modules, "tumbler.cli.plugins", Command)
    return Command


def raising(error: BaseException):
    def action(args):
        raise error

    return staticmethod(action)


def test_help_lists_every_command_with_its_summary(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    listed = " ".join(capsys.readouterr().out.split())
    for name, summary in cli.COMMANDS.items():
        assert f" {name} {summary}" in listed


def test_help_imports_no_command_and_nothing_heavy(tmp_path):
    modules = modules_after(["--help"], tmp_path)
    assert not modules & (HEAVY | {"tumbler.plugins", "tumbler.observers", "importlib.metadata"})
    assert {name for name in modules if name.startswith("tumbler.cli.")} == {"tumbler.cli.main"}


def test_listing_the_plugins_imports_nothing_heavy(tmp_path):
    modules = modules_after(["plugins"], tmp_path)
    assert "tumbler.plugins.host" in modules
    assert not modules & (HEAVY | {"tumbler.registry", "tumbler.config", "packaging.requirements", "asyncio"})


def test_without_a_command_the_help_is_printed(capsys):
    assert cli.main([]) == 0
    assert "commands:" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"tumbler {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["plugins", "--no-such-option"], ["plugins", "--numb", "3"]]
)
def test_wrong_usage_exits_with_2(command, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: tumbler" in capsys.readouterr().err


def test_a_command_gets_its_arguments_and_gives_the_exit_code(command):
    command.action = staticmethod(lambda args: args.number)
    assert cli.main(["plugins", "--number", "7"]) == 7


def test_an_error_of_tumblers_own_is_one_message_and_exit_code_1(command, capsys):
    command.action = raising(RegistryError("two problems:\n  - one\n  - two"))
    assert cli.main(["plugins"]) == 1
    assert capsys.readouterr().err == "tumbler: two problems:\n  - one\n  - two\n"


@pytest.mark.parametrize("arguments", [["--debug", "plugins"], ["plugins", "--debug"]])
def test_debug_lets_the_error_through(command, arguments):
    command.action = raising(RegistryError("a problem"))
    with pytest.raises(RegistryError):
        cli.main(arguments)


def test_any_other_error_is_a_defect_and_keeps_its_traceback(command):
    command.action = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["plugins"])


def test_an_interruption_exits_with_130(command, capsys):
    command.action = raising(KeyboardInterrupt())
    assert cli.main(["plugins"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    script = "import sys\nfrom tumbler.cli.main import main\nsys.exit(main(['plugins', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_the_console_script_is_this_function(tmp_path):
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="tumbler")
    assert script.load() is cli.main


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_has_closed_bring_no_traceback(closed):
    command = f"{sys.executable} -m tumbler.cli.main agent -p - {closed}"
    done = subprocess.run(["sh", "-c", command], input="", capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "2>&-" in closed or "the message is empty" in done.stderr


def test_a_command_does_its_work_also_where_nobody_takes_its_output():
    command = f"{sys.executable} -m tumbler.cli.main schema >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
