"""Tasks in folders: what is read of them, what is refused and how that is said."""

import json
import os
from dataclasses import replace

import pytest

from tumbler.contracts.environment import Task
from tumbler.contracts.sandbox import Healthcheck, NetworkPolicy, Resources
from tumbler.errors import ContractError, RunError
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.folder.source import FolderTasks
from tumbler_envs.terminal.sandboxing import verifier_network
from tumbler_envs.terminal.settings import TerminalSettings

TRAIN = '[metadata]\nsplit = "train"\n'


@pytest.fixture
def source(task_folder):
    return lambda **settings: FolderTasks(task_folder.root, TerminalSettings(folder=task_folder.root, **settings))


@pytest.fixture
def load(task_folder, source):
    """Writes one task and loads it."""

    def write_and_load(configuration="", settings=None, **words):
        task_folder(configuration=TRAIN + configuration, **words)
        (task,) = source(**(settings or {})).tasks("train", count=1, seed=0)
        return source(**(settings or {})).load(task)

    return write_and_load


def spec_of(task_folder, **settings):
    environment_settings = TerminalSettings(folder=task_folder.root, **settings)
    environment = TerminalEnvironment(environment_settings)
    (task,) = FolderTasks(task_folder.root, environment_settings).tasks("train", count=1, seed=0)
    return environment.sandbox_spec(task)


def test_a_task_holds_what_its_folder_holds(load):
    task = load(environment={"a/b.txt": "1", "c": "2"})
    assert {path: file.content for path, file in task.files.items()} == {"a/b.txt": b"1", "c": b"2"}
    assert set(task.tests) == {"test.sh", "data/marker"}
    assert (task.name, task.workdir, task.image, task.verifier_timeout) == ("greet", "/app", None, 600.0)


def test_a_task_is_plain_json_and_holds_none_of_its_files(task_folder, source):
    folder = task_folder(configuration=TRAIN)
    (task,) = source().tasks("train", count=9, seed=0)
    assert (task.id, task.instruction, task.split) == ("greet", "Write hello to greeting.", "train")
    assert json.loads(json.dumps(task.metadata)) == task.metadata
    assert set(task.metadata) == {"folder", "digest"}
    assert task.metadata["folder"] == str(folder)


def test_a_tasks_own_folder_may_be_named(task_folder):
    folder = task_folder(configuration=TRAIN)
    task_folder("other", configuration=TRAIN)
    (task,) = FolderTasks(folder, TerminalSettings()).tasks("train", count=9, seed=0)
    assert task.id == "greet"


def test_what_the_configuration_asks_for_is_asked_of_the_sandbox(task_folder):
    task_folder(
        configuration=TRAIN
        + """
[agent]
user = "worker"
[environment]
docker_image = "python:3.13-slim"
workdir = "/srv"
cpus = 2
memory_mb = 512
storage_mb = 1024
gpus = 0
env = { LEVEL = "3" }
healthcheck = { command = "test -e ready", interval_sec = 2.0 }
"""
    )
    spec = spec_of(task_folder)
    assert (spec.image, spec.workdir, spec.user, spec.env) == ("python:3.13-slim", "/srv", "worker", {"LEVEL": "3"})
    assert spec.resources == Resources(cpus=2, memory_bytes=512 << 20, disk_bytes=1 << 30, processes=256)
    assert spec.healthcheck == Healthcheck(command=("sh", "-c", "test -e ready"), interval=2.0, timeout=30.0)
    assert spec.files == {"/srv/readme": b"Nothing here.\n"}


def test_old_names_are_read(load):
    task = load('[environment]\nmemory = "2G"\nstorage = "512M"\nallow_internet = false\n', settings={})
    assert (task.resources.memory_bytes, task.resources.disk_bytes) == (2 << 30, 512 << 20)
    assert task.network.mode == "none"


def test_the_old_name_of_the_version_is_read(task_folder, source):
    task_folder(configuration='version = "1.0"\n' + TRAIN)
    assert len(source().tasks("train", count=1, seed=0)) == 1


NETWORKS = {
    "": ("public", None),
    '[environment]\nnetwork_mode = "no-network"\n': ("none", None),
    '[agent]\nnetwork_mode = "no-network"\n': ("none", "public"),
    '[environment]\nnetwork_mode = "no-network"\n[verifier]\nnetwork_mode = "public"\n': ("none", "public"),
}


@pytest.mark.parametrize("configuration", NETWORKS)
def test_a_tasks_network_is_heeded_where_the_settings_say_so(task_folder, load, configuration):
    agent, tests = NETWORKS[configuration]
    task = load(configuration)
    assert spec_of(task_folder).network.mode == "none"
    assert spec_of(task_folder, network={"mode": "task"}).network.mode == agent
    asked = verifier_network(task, TerminalSettings(network={"mode": "task"}))
    assert (asked and asked.mode) == tests
    assert verifier_network(task, TerminalSettings()) is None


def test_hosts_and_ranges_are_told_apart(load):
    hosts = '["pypi.org", "*.example.org", "203.0.113.0/24", "192.0.2.1"]'
    task = load(f'[environment]\nnetwork_mode = "allowlist"\nallowed_hosts = {hosts}\n')
    assert task.network == NetworkPolicy(
        mode="allowlist", hosts=("pypi.org", "*.example.org"), cidrs=("203.0.113.0/24", "192.0.2.1/32")
    )


def test_marks_for_collectors_of_training_data_are_not_shown(task_folder, source):
    task_folder(configuration=TRAIN, instruction="<!-- canary GUID 1 -->\n# a canary, too\n\n# Title\n\nDo it.")
    (task,) = source().tasks("train", count=1, seed=0)
    assert task.instruction == "# Title\n\nDo it."


# Splits


def test_a_task_says_its_split_or_a_hash_of_its_name_decides(task_folder, source):
    for number in range(60):
        task_folder(f"task-{number}")
    task_folder("mine", configuration='[metadata]\nsplit = "held-out"\n')
    held_out, train = ({task.id for task in source().tasks(split, count=99, seed=0)} for split in ("held-out", "train"))
    assert "mine" in held_out
    assert 3 < len(held_out) < 25
    assert len(held_out | train) == len(held_out) + len(train) == 61


def test_a_change_of_its_content_leaves_a_task_in_its_split(task_folder, source):
    folders = [task_folder(f"task-{number}") for number in range(20)]
    before = {task.id for task in source().tasks("held-out", count=99, seed=0)}
    for folder in folders:
        (folder / "tests/test.sh").write_text("exit 1\n")
    assert {task.id for task in source().tasks("held-out", count=99, seed=3)} == before


def test_another_field_may_say_the_split(task_folder, source):
    task_folder(configuration='[metadata]\nstage = "held-out"\nsplit = "dev"\n')
    assert len(source(split_field="stage").tasks("held-out", count=1, seed=0)) == 1


def test_a_seed_orders_the_tasks_and_fewer_are_a_prefix_of_more(task_folder, source):
    for number in range(12):
        task_folder(f"task-{number}", configuration=TRAIN)
    orders = [[task.id for task in source().tasks("train", count=12, seed=seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert [task.id for task in source().tasks("train", count=5, seed=0)] == orders[0][:5]


# Refusals


def refusal(source, **settings):
    with pytest.raises(RunError) as caught:
        source(**settings).tasks("train", count=1, seed=0)
    return str(caught.value)


CONFIGURATIONS = {
    '[environment]\nos = "windows"\n': "environment.os: Input should be 'linux'",
    "[environment]\nmcp_servers = []\n": "environment.mcp_servers: Extra inputs are not permitted",
    '[environment]\nmemory = "many"\n': "is no size; write a number with G, M or K",
    '[environment]\nworkdir = "srv"\n': "environment.workdir: String should match",
    '[verifier]\nenvironment_mode = "separate"\n': "verifier.environment_mode: Input should be 'shared'",
    '[verifier.environment]\ndocker_image = "x"\n': "verifier.environment: Extra inputs",
    '[verifier]\nuser = "root"\n': "verifier.user differs from agent.user",
    '[verifier.env]\nKEY = "${API_KEY}"\n': "verifier.env.KEY: nothing of this machine's own environment",
    '[environment.env]\nKEY = "a${API_KEY:-}"\n': "environment.env.KEY: nothing of this machine's own environment",
    '[[steps]]\nname = "one"\n': "has several steps",
    "[environment\n": "task.toml is no TOML",
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_what_is_not_done_here_is_refused(task_folder, source, configuration):
    task_folder(configuration=configuration)
    assert CONFIGURATIONS[configuration] in refusal(source)


def test_a_dockerfile_is_refused_unless_an_image_stands_for_it(task_folder, source):
    task_folder(configuration=TRAIN, environment={"Dockerfile": "FROM ubuntu\nCOPY data /data\n", "data": "1"})
    assert "greet environment/Dockerfile would have to be built" in refusal(source)
    assert "setting images" in refusal(source, images={"other-*": "x"})
    settings = {"images": {"gr*": "/images/greet", "*": "rest"}}
    (task,) = source(**settings).tasks("train", count=1, seed=0)
    loaded = source(**settings).load(task)
    assert loaded.image == "/images/greet"
    assert loaded.files == {}


def test_several_containers_are_refused_even_with_an_image(task_folder, source):
    task_folder(environment={"docker-compose.yaml": "services: {}\n"})
    assert "one sandbox here" in refusal(source, images={"*": "x"})


@pytest.mark.parametrize("name", ["task.toml", "instruction.md", "tests/test.sh"])
def test_a_missing_part_is_named(task_folder, source, name):
    task_folder("whole")
    (task_folder() / name).rename(task_folder.root / "elsewhere")
    if name == "task.toml":
        assert len(source().tasks("train", count=9, seed=0) + source().tasks("held-out", count=9, seed=0)) == 1
    else:
        assert f"greet has no {name}" in refusal(source)


def test_all_problems_are_told_at_once_and_tasks_can_be_left_out(task_folder, source):
    for number in range(12):
        task_folder(f"bad-{number}", environment={"Dockerfile": ""})
    task_folder("good", configuration=TRAIN)
    message = refusal(source)
    assert "12 tasks of" in message
    assert message.count("would have to be built") == 10
    assert [task.id for task in source(include=("go*", "x")).tasks("train", count=9, seed=0)] == ["good"]


@pytest.mark.parametrize("place", ["environment", "tests", "solution"])
@pytest.mark.parametrize("target", ["/etc/hostname", "/etc", "../../../secret"])
def test_a_link_out_of_the_folder_is_refused(task_folder, source, tmp_path, place, target):
    (tmp_path / "secret").write_text("key")
    (task_folder() / place / "link").symlink_to(target)
    assert "link leads out of the task's folder" in refusal(source)


def test_a_task_file_that_is_a_link_out_of_the_folder_is_refused(task_folder, source, tmp_path):
    (tmp_path / "secret").write_text("key")
    instruction = task_folder() / "instruction.md"
    instruction.unlink()
    instruction.symlink_to(tmp_path / "secret")
    assert "instruction.md leads out" in refusal(source)


def test_a_link_within_the_folder_is_read_and_a_special_file_refused(task_folder, source):
    folder = task_folder(configuration=TRAIN)
    (folder / "environment/same").symlink_to("readme")
    (task,) = source().tasks("train", count=1, seed=0)
    assert source().load(task).files["same"].content == b"Nothing here.\n"
    os.mkfifo(folder / "environment/pipe")
    assert "pipe is a link to a folder or a special file" in refusal(source)


def test_too_much_data_is_refused(task_folder, source):
    with (task_folder() / "environment/big").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "more than 64 MiB" in refusal(source)


def test_a_split_that_does_not_exist_is_refused(task_folder, source):
    task_folder(configuration='[metadata]\nsplit = "test"\n')
    assert "split = 'test' in [metadata]; it may be train or held-out" in refusal(source)


def test_a_missing_and_an_empty_folder_are_named(task_folder, source):
    assert "there is no folder" in refusal(source)
    task_folder()
    assert "1 that the setting include leaves out" in refusal(source, include=("x",))
    (task_folder.root / "greet/task.toml").unlink()
    assert "has no sub-folder with a task.toml" in refusal(source)


def test_a_task_that_changed_since_it_was_made_is_refused(task_folder, source):
    folder = task_folder(configuration=TRAIN)
    (task,) = source().tasks("train", count=1, seed=0)
    (folder / "tests/test.sh").write_text("exit 0\n")
    with pytest.raises(RunError, match="has changed since the run began"):
        source().load(task)
    (folder / "instruction.md").unlink()
    with pytest.raises(RunError, match="cannot be used: it has no instruction"):
        source().load(task)


def test_a_task_of_another_kind_is_refused(source, task_folder):
    task_folder()
    with pytest.raises(ContractError, match="no task of a folder"):
        source().load(Task(id="x", instruction=""))


async def test_a_solution_that_needs_other_files_gives_no_expert(task_folder):
    task_folder(configuration=TRAIN, solution={"solve.sh": "python3 /solution/x.py", "x.py": ""})
    environment = TerminalEnvironment(TerminalSettings(folder=task_folder.root))
    (task,) = await environment.tasks("train", count=1, seed=0)
    with pytest.raises(ContractError, match=r"needs a solution/solve\.sh"):
        environment.expert(task, seed=0)
    with pytest.raises(ContractError):
        environment.expert(replace(task, metadata={}), seed=0)
