"""`tumbler agent` as a person has it: a real terminal, a real sandbox, and a real server that speaks from a script."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.integration.chat_server import KEY, MODEL, ChatServer, answered, calls, last_user, text

from tumbler.formats.files import read_trajectories
from tumbler.plugins import PluginHost
from tumbler.registry import load_registry, resolve_run
from tumbler.trajectory import verify_trajectory
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel

WAIT_S = 60.0
QUESTION = "Do it?"


def script(messages):
    """Say what the last line of the person's message asks for."""
    said, results = last_user(messages).splitlines()[-1], answered(messages)
    if said == "edit":
        steps = [
            calls(("read", {"path": "a.txt"}), said="I look first."),
            calls(("edit", {"path": "a.txt", "old": "hello", "new": "good morning"})),
            text(f"Edited. {results[-1] if results else ''}"),
        ]
        return steps[len(results)]
    if said == "remove":
        return text(f"I was told: {results[-1]}") if results else calls(("shell", {"command": "rm a.txt"}))
    if said == "numbers":
        return text("Counted.") if results else calls(("shell", {"command": "seq 1 1500"}))
    if said == "talk":
        return text(" ".join(f"word{number}" for number in range(2000)), pause=0.05)
    if said == "sleep":
        return text("Awake.") if results else calls(("shell", {"command": "sleep 300"}))
    if "summary" in said:
        return text("SUMMED-UP: numbers were counted.")
    return text(f"You said <{said}>.")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(script) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.txt").write_text("hello\n")
    return folder


class Terminal:
    """A terminal of its own, with a program in it, and a person who types."""

    def __init__(self, name: str, folder: Path, state: Path) -> None:
        self._name = name
        self._starts = 0
        self._server: list[str] = []
        self._folder = folder
        self._variables = {"XDG_STATE_HOME": str(state), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> None:
        """Run `tumbler agent` with these arguments, in the folder; a terminal that was there before is closed."""
        self.close()
        self._starts += 1
        self._server = ["tmux", "-L", f"{self._name}-{self._starts}", "-f", "/dev/null"]
        variables = [f"{name}={value}" for name, value in self._variables.items()]
        words = [
            "exec",
            "env",
            "-u",
            "COLUMNS",
            "-u",
            "LINES",
            *variables,
            sys.executable,
            "-m",
            "tumbler.cli.main",
            "agent",
            *arguments,
        ]
        self._tmux(
            *("start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";"),
            *("new-session", "-d", "-x", "200", "-y", "60", "-c", str(self._folder), shlex.join(words)),
        )

    def type(self, *keys: str) -> None:
        """Press keys; a text is typed as it stands."""
        for key in keys:
            literal = [] if key in ("Enter", "C-c", "C-d") else ["-l"]
            self._tmux("send-keys", *literal, "--", key)

    def say(self, message: str) -> None:
        """Type a message and send it."""
        self.type(message, "Enter")

    def paste(self, pasted: str) -> None:
        """Paste a text, as terminals do."""
        subprocess.run([*self._server, "load-buffer", "-"], input=pasted.encode(), check=True)
        self._tmux("paste-buffer", "-p")

    def screen(self) -> str:
        """What is to be seen, and what was."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-500")

    def wait(self, seen: str | Callable[[str], bool]) -> str:
        """Wait until a text is on the screen; return the screen."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            screen = self.screen()
            if seen(screen) if callable(seen) else seen in screen:
                return screen
            time.sleep(0.05)
        raise AssertionError(f"never seen: {seen!r}; the screen shows:\n{self.screen()}")

    def wait_for_prompt(self) -> str:
        """Wait until the person may speak again."""
        return self.wait(lambda screen: screen.rstrip().endswith("\n>") or screen.rstrip() == ">")

    def wait_for_end(self) -> int | None:
        """Wait until the program has ended; return its exit code, or None where a signal has killed it."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            ended = self._tmux("display-message", "-p", "#{pid},#{pane_dead},#{pane_dead_status},#{pane_dead_signal}")
            server, dead, status, killed = ended.strip().split(",")
            if dead == "1" and (status or killed):
                return int(status) if status else None
            if dead == "1":
                # The terminal is dead once nobody has it open. How the program ended tmux knows only after it has
                # waited for it, which it now and then forgets: the signal is merged with another process's.
                os.kill(int(server), signal.SIGCHLD)
            time.sleep(0.05)
        raise AssertionError(f"still at work; the screen shows:\n{self.screen()}")

    def process(self) -> int:
        """The program's process."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))

    def kill(self) -> None:
        """Kill the program with no warning."""
        os.kill(self.process(), signal.SIGKILL)
        assert self.wait_for_end() is None

    def close(self) -> None:
        if self._server:
            subprocess.run([*self._server, "kill-server"], check=False, capture_output=True)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run([*self._server, *words], check=True, capture_output=True, text=True, timeout=30)
        return done.stdout


@pytest.fixture
def terminal(request, tmp_path, folder) -> Iterator[Terminal]:
    terminal = Terminal(f"tumbler-{os.getpid()}-{request.node.name[:40]}", folder, tmp_path / "state")
    yield terminal
    terminal.close()


def options(server: ChatServer, *more: str) -> list[str]:
    return ["--upstream", server.url, "--model", MODEL, "--context-length", "16000", *more]


def require_legal(body: Mapping) -> None:
    """Fail where a chat API would refuse the conversation."""
    waiting: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.discard(message["tool_call_id"])
        else:
            assert not waiting, f"calls without an answer before {message}"
            waiting = {call["id"] for call in message.get("tool_calls", ())}
    assert not waiting


def test_the_beginning_says_what_the_agent_can_touch_and_where_the_window_is_from(terminal, server, folder):
    terminal.start(*options(server))
    screen = terminal.wait_for_prompt()
    assert f"It can read and change {folder}." in screen
    assert "It has no network" in screen and "It asks before it changes anything" in screen
    assert "16,000 tokens (from --context-length)" in screen
    terminal.type("C-d")
    assert terminal.wait_for_end() == 0


def test_an_edit_is_shown_as_a_diff_and_made_once_it_is_approved(terminal, server, folder):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.say("edit")
    screen = terminal.wait(QUESTION)
    assert "I look first." in screen and "-hello" in screen and "+good morning" in screen
    assert (folder / "a.txt").read_text() == "hello\n", "changed before it was approved"
    terminal.say("y")
    screen = terminal.wait("Edited. Replaced 1 at line 1 in a.txt.")
    assert (folder / "a.txt").read_text() == "good morning\n"
    screen = terminal.wait_for_prompt()
    assert re.search(r"[\d,]+ of 16,000 tokens \(\d+ %; window from --context-length\)", screen)


def test_a_command_that_is_denied_is_not_run_and_the_reason_reaches_the_model(terminal, server, folder):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.say("remove")
    assert "rm a.txt" in terminal.wait(QUESTION)
    terminal.say("keep that file")
    terminal.wait("I was told: error: shell was not approved: keep that file")
    assert (folder / "a.txt").exists()
    require_legal(server.requests[-1])


def test_what_a_command_says_is_told_also_where_nobody_types(server, folder, tmp_path):
    done = run_once(folder, tmp_path, *options(server), "-p", "/todo")
    assert "tumbler: The todo list is empty." in done.stderr and "todo" not in done.stdout


def test_an_answer_that_comes_too_late_is_told_so(terminal, server, folder):
    terminal.start(*options(server, "--set", "approval.seconds=0.5"))
    terminal.wait_for_prompt()
    terminal.say("remove")
    terminal.wait(QUESTION)
    time.sleep(2)
    terminal.say("y")
    terminal.wait("That call waits for an answer no more.")
    terminal.wait("I was told: error: shell was not approved: nobody answered")
    assert (folder / "a.txt").exists()


def test_a_tool_that_is_always_allowed_is_not_asked_about_again(terminal, server):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.say("numbers")
    terminal.wait(QUESTION)
    terminal.say("a")
    terminal.wait("Counted.")
    terminal.wait_for_prompt()
    terminal.say("numbers")
    screen = terminal.wait(lambda screen: screen.count("Counted.") == 2)
    assert screen.count(QUESTION) == 1 and "… 1496 more lines" in screen


def test_a_reply_that_is_interrupted_leaves_a_conversation_that_goes_on(terminal, server):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.say("talk")
    terminal.wait("word5 ")
    terminal.type("C-c")
    assert "word1999" not in terminal.wait("Interrupted.")
    terminal.wait_for_prompt()
    terminal.say("still there")
    terminal.wait("You said <still there>.")
    require_legal(server.requests[-1])
    assert "You were interrupted" in server.requests[-1]["messages"][-1]["content"]


def test_a_command_that_is_interrupted_is_ended_and_answered(terminal, server):
    terminal.start(*options(server, "--yes"))
    terminal.wait_for_prompt()
    terminal.say("sleep")
    terminal.wait("Ctrl-C interrupts)")
    terminal.type("C-c")
    terminal.wait("Interrupted.")
    terminal.wait_for_prompt()
    terminal.say("go on")
    terminal.wait("You said <go on>.")
    require_legal(server.requests[-1])
    assert any(
        "interrupted" in str(each["content"]) for each in server.requests[-1]["messages"] if each["role"] == "tool"
    )


def test_two_interruptions_leave(terminal, server):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.type("C-c")
    terminal.wait("Ctrl-C once more leaves")
    terminal.type("C-c")
    assert terminal.wait_for_end() == 0


def test_an_interruption_gives_up_what_is_typed_and_is_none_of_two(terminal, server):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    for typed in ("half a", "another half"):
        terminal.type(typed)
        terminal.wait(f"> {typed}")
        terminal.type("C-c")
        screen = terminal.wait_for_prompt()
    assert "Ctrl-C once more leaves" not in screen
    terminal.say("whole")
    terminal.wait("You said <whole>.")


def test_a_long_conversation_is_compacted_by_itself_and_when_the_person_wants_it(terminal, server):
    terminal.start(*options(server, "--yes"))
    terminal.wait_for_prompt()

    def count_numbers(turn: int) -> str:
        terminal.say("numbers")
        return terminal.wait(lambda screen: screen.count("window from --context-length)") == turn)

    for turn in range(1, 6):
        count_numbers(turn)
    before = count_numbers(6).count("Compacted: ")
    assert before >= 1, "not compacted at its threshold"
    terminal.say("/compact")
    terminal.wait(lambda screen: screen.count("Compacted: ") == before + 1)
    terminal.say("what was done")
    terminal.wait("You said <what was done>.")
    contents = "\n".join(str(message["content"]) for message in server.requests[-1]["messages"])
    assert "SUMMED-UP" in contents and len(contents) < 16_000
    require_legal(server.requests[-1])


def test_a_conversation_outlives_the_death_of_its_process(terminal, server, folder):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.say("remember the word xylophone")
    terminal.wait("You said <remember the word xylophone>.")
    terminal.wait_for_prompt()
    terminal.say("talk")
    terminal.wait("word3 ")
    terminal.kill()
    terminal.start("--resume")
    screen = terminal.wait_for_prompt()
    assert "Going on with" in screen and "remember the word xylophone" in screen
    terminal.say("edit")
    terminal.wait(QUESTION)
    terminal.say("y")
    terminal.wait("Edited.")
    contents = [str(message["content"]) for message in server.requests[-1]["messages"]]
    assert any("xylophone" in content for content in contents)
    assert (folder / "a.txt").read_text() == "good morning\n"
    terminal.wait_for_prompt()
    terminal.say("/resume")
    assert "3 message(s)" in terminal.wait("remember-the-word-xylophone  '")


def test_a_terminal_that_is_closed_ends_the_session_and_its_sandbox(terminal, server, tmp_path):
    boxes = tmp_path / "boxes"
    terminal.start(*options(server, "--yes", "--sandbox-set", f"root={boxes}"))
    terminal.wait_for_prompt()
    terminal.say("sleep")
    terminal.wait("Ctrl-C interrupts)")
    identity = terminal.process()
    assert list(boxes.glob("*/*"))
    terminal.close()
    until = time.monotonic() + WAIT_S
    while Path(f"/proc/{identity}").exists():
        assert time.monotonic() < until, "the session goes on without its terminal"
        time.sleep(0.05)
    assert not [path for path in boxes.glob("*/*") if path.is_dir()]


def test_a_text_that_is_pasted_is_one_message(terminal, server):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    terminal.paste("first\nsecond\n  third")
    terminal.type("Enter")
    terminal.wait("You said <  third>.")
    assert "first\nsecond\n  third" in server.requests[0]["messages"][-1]["content"]
    assert len(server.requests) == 1


def test_the_commands_ask_no_model(terminal, server):
    terminal.start(*options(server))
    terminal.wait_for_prompt()
    for command, shown in {
        "/help": "/quit  Leave",
        "/tools": "todo_write",
        "/todo": "The todo list is empty.",
        "/memory": "There is no memory.",
        "/plan": "Plan mode: the agent only reads",
        "/resume": "No conversation was kept so far.",
    }.items():
        terminal.say(command)
        terminal.wait(shown)
        terminal.wait_for_prompt()
    assert server.requests == []
    terminal.say("/quit")
    assert terminal.wait_for_end() == 0


def test_a_wrong_key_and_a_wrong_model_are_told_with_what_to_look_at(terminal, tmp_path, folder):
    with ChatServer(script, key=KEY) as server:
        terminal.start(*options(server))
        terminal.wait_for_prompt()
        terminal.say("hello")
        screen = terminal.wait("no key was sent; --api-key-env NAME names the variable")
        assert "answered 401" in screen
        terminal.close()
    with ChatServer(script) as server:
        terminal.start("--upstream", server.url, "--model", "other")
        screen = terminal.wait_for_prompt()
        assert "32,768 tokens (assumed; --context-length says better)" in screen
        terminal.say("hello")
        assert "the model's name (--model)" in terminal.wait("look at the address")


def run_once(folder: Path, state: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tumbler.cli.main", "agent", *arguments]
    surroundings = {**os.environ, "XDG_STATE_HOME": str(state), "OMP_NUM_THREADS": "1", "SERVER_KEY": KEY}
    return subprocess.run(
        words, cwd=folder, env=surroundings, input=given, capture_output=True, text=True, timeout=120, check=False
    )


def test_one_message_without_a_person_is_answered_on_standard_output(server, folder, tmp_path):
    done = run_once(folder, tmp_path, *options(server, "--yes", "-p", "edit"))
    assert (done.returncode, done.stdout) == (0, "Edited. Replaced 1 at line 1 in a.txt.\n"), done.stderr
    assert (folder / "a.txt").read_text() == "good morning\n"
    again = run_once(folder, tmp_path, *options(server, "--resume", "-p", "-"), given="and now\n")
    assert again.stdout == "You said <and now>.\n", again.stderr
    assert len(server.requests[-1]["messages"]) > 6, "the conversation did not go on"


def test_without_a_person_nothing_is_changed_unless_that_was_allowed(server, folder, tmp_path):
    done = run_once(folder, tmp_path, *options(server, "-p", "remove"))
    assert done.returncode == 0 and (folder / "a.txt").exists()
    assert "1 call(s) were refused" in done.stderr and "--yes" in done.stderr


def test_events_are_printed_as_lines_of_json(folder, tmp_path):
    with ChatServer(script, key=KEY) as server:
        done = run_once(
            folder, tmp_path, *options(server, "--api-key-env", "SERVER_KEY", "-p", "edit", "--yes", "--json")
        )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["type"] for event in events]
    assert kinds.count("call_started") == kinds.count("call_ended") == 2
    assert events[-1] == {"type": "done", "reason": "finished", "text": "Edited. Replaced 1 at line 1 in a.txt."}
    assert "".join(event["text"] for event in events if event["type"] == "text_piece").startswith("I look first.")


def test_a_server_that_is_not_there_fails_with_a_word_on_what_to_do(folder, tmp_path):
    done = run_once(folder, tmp_path, "--upstream", "http://127.0.0.1:9/v1", "--model", "m", "-p", "hello")
    assert done.returncode == 1 and done.stdout == ""
    assert "cannot be reached" in done.stderr and "is the server running" in done.stderr


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    settings = TinySettings(layers=1, width=32, context=16384)
    return TinyModel(settings).prepare(folder, texts=["Look at the file, then change it."] * 4, seed=0)


def test_a_local_model_converses_and_its_record_is_a_trajectory(model_folder, folder, tmp_path):
    arguments = [
        "--model-folder",
        str(model_folder),
        "--max-tokens",
        "8",
        "--set",
        "sub_agents.depth=0",
        "--turns",
        "2",
    ]
    first = run_once(folder, tmp_path, *arguments, "-p", "hello", "--json")
    kinds = [json.loads(line)["type"] for line in first.stdout.splitlines()]
    assert kinds[-1] == "done" and "said" in kinds, first.stderr
    second = run_once(folder, tmp_path, *arguments, "--resume", "-p", "again", "--json")
    assert '"said"' in second.stdout, second.stderr
    (kept,) = (tmp_path / "tumbler" / "conversations").glob("*-hello")
    recorded = list(read_trajectories(kept))
    assert [each.id for each in recorded] == ["1-conversation", "2-conversation"]
    for trajectory in recorded:
        verify_trajectory(trajectory)
        assert trajectory.chunks and trajectory.header.agent.id == "iflow"
    assert recorded[0].details["instruction"] == "hello"


RUN = """
schema = 1

[agents.coder]
use = "iflow"
todo = false
sub_agents = { depth = 0 }
context = ["summary"]

[runs.small]
env = "trail"
agent = "coder"
model = "tiny"
backends = { sandbox = "bubblewrap", inference = "transformers", training = "torch", execution = "local" }
stages = ["sft"]
sampling = { max_tokens = 8 }
"""


@pytest.fixture
def run_folder(model_folder, tmp_path) -> Path:
    """The folder of a run as `tumbler run` leaves it, the model that it started from in place of a checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "registry.toml").write_text(RUN)
    resolved = resolve_run(load_registry(tmp_path / "registry.toml"), "small", PluginHost.load(allow=["tumbler"]))
    (folder / "run.json").write_text(json.dumps(resolved.to_json()))
    (folder / "state.json").write_text(json.dumps({"checkpoint": None, "model": str(model_folder)}))
    return folder


def test_a_run_converses_with_the_agent_that_it_has_trained_and_with_no_other(run_folder, folder, tmp_path):
    trained = run_once(folder, tmp_path, "--run", str(run_folder), "--turns", "1", "-p", "hello", "--json")
    assert '"said"' in trained.stdout, trained.stderr
    assert "warning" not in trained.stderr
    other = ["--run", str(run_folder), "--agent", "iflow", "--set", "sub_agents.depth=0", "--turns", "1", "-p", "hello"]
    refused = run_once(folder, tmp_path, *other)
    assert refused.returncode == 1 and "todo is True, and was False" in refused.stderr
    warned = run_once(folder, tmp_path, *other, "--anyway", "--json")
    assert '"said"' in warned.stdout and "warning: not as it was trained: agent iflow: todo" in warned.stderr
