import subprocess

from tumbler.contracts.sandbox import Resources
from tumbler_backends.sandbox.bubblewrap.limits.cgroups import Cgroup, CgroupParent, find_parents, kill_and_remove


def mount(folder, kind, options, root="/"):
    return f"30 25 0:26 {root} {folder} rw,relatime - {kind} {kind} {options}\n"


def test_each_v1_controller_is_found_below_the_own_cgroup(tmp_path):
    mounts = mount(tmp_path / "pids", "cgroup", "rw,pids") + mount(tmp_path / "mem", "cgroup", "rw,memory", "/docker/x")
    cgroups = "8:pids:/\n4:memory:/docker/x/inner\n1:cpu:/\n0::/\n"
    assert find_parents(cgroups, mounts) == [
        CgroupParent(folder=tmp_path / "pids", controllers=frozenset({"pids"}), version=1),
        CgroupParent(folder=tmp_path / "mem/inner", controllers=frozenset({"memory"}), version=1),
    ]


def test_on_v2_the_nearest_ancestor_that_hands_controllers_down_is_taken(tmp_path):
    own = tmp_path / "user.slice/app.slice/shell.scope"
    own.mkdir(parents=True)
    (own / "cgroup.subtree_control").write_text("")
    (own.parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (own.parent.parent / "cgroup.subtree_control").write_text("memory pids\n")
    (found,) = find_parents("0::/user.slice/app.slice/shell.scope\n", mount(tmp_path, "cgroup2", "rw"))
    assert found == CgroupParent(folder=own.parent, controllers=frozenset({"cpu", "memory", "pids"}), version=2)


def test_on_v2_without_delegation_there_is_none(tmp_path):
    (tmp_path / "own").mkdir()
    assert find_parents("0::/own\n", mount(tmp_path, "cgroup2", "rw")) == []


def test_limits_are_written_in_the_words_of_each_version(tmp_path):
    parents = {
        tmp_path / "one": CgroupParent(folder=tmp_path, controllers=frozenset({"pids", "memory"}), version=1),
        tmp_path / "two": CgroupParent(folder=tmp_path, controllers=frozenset({"cpu", "memory"}), version=2),
        tmp_path / "none": CgroupParent(folder=tmp_path, controllers=frozenset({"cpu"}), version=1),
    }
    Cgroup(parents, Resources(processes=7, memory_bytes=1000))
    assert (tmp_path / "one/pids.max").read_text() == "7"
    assert (tmp_path / "one/memory.limit_in_bytes").read_text() == "1000"
    assert (tmp_path / "two/memory.max").read_text() == "1000"
    assert not (tmp_path / "none").exists()
    Cgroup({tmp_path / "two": parents[tmp_path / "two"]}, Resources(cpus=0.5))
    assert (tmp_path / "two/cpu.max").read_text() == "50000 100000"


def test_what_is_left_in_a_cgroup_is_killed(tmp_path):
    with subprocess.Popen(["sleep", "1000"]) as process:
        folder = tmp_path / "group"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner/cgroup.procs").write_text(f"{process.pid}\n")
        assert not kill_and_remove([folder])
        assert process.wait() == -9
    (folder / "inner/cgroup.procs").unlink()
    assert kill_and_remove([folder])
    assert not folder.exists()
