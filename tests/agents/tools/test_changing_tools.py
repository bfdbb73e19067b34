"""The tools `write`, `edit` and `multi_edit`: exact, all or nothing, and never over what the policy has not seen."""

import asyncio

import pytest

from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.sandbox import SandboxTools


async def test_a_new_file_is_written_with_its_folders_and_may_then_be_edited(call, box):
    output = await call("write", path="deep/er/a.txt", content="häßlich\n")
    assert output.text == "Created deep/er/a.txt (10 bytes)."
    assert not (await call("edit", path="deep/er/a.txt", old="häß", new="schön")).errored
    assert not (await call("write", path="/work/deep/er/a.txt", content="new")).errored
    assert await box.read("deep/er/a.txt") == b"new"


@pytest.mark.parametrize("name", ["write", "edit", "multi_edit"])
async def test_a_file_that_was_not_read_or_has_changed_since_is_left_alone(call, box, name):
    arguments = {
        "write": {"content": "mine"},
        "edit": {"old": "b", "new": "c"},
        "multi_edit": {"edits": [{"old": "b", "new": "c"}]},
    }[name]
    await box.write("a", b"a b")
    unread = await call(name, path="a", **arguments)
    assert unread.errored
    assert "has not been read: read it first" in unread.text
    await call("read", path="a")
    await call("shell", command="sed -i s/a/A/ a")
    changed = await call(name, path="a", **arguments)
    assert changed.errored
    assert "has changed since it was last read: read it again" in changed.text
    assert await box.read("a") == b"A b"
    await call("read", path="a", limit=1)
    assert not (await call(name, path="a", **arguments)).errored


async def test_own_changes_need_no_new_look(call, box):
    await call("write", path="a", content="1")
    for old, new in (("1", "2"), ("2", "3")):
        assert not (await call("edit", path="./a", old=old, new=new)).errored
    assert await box.read("a") == b"3"


async def test_an_old_text_that_is_not_there_names_the_nearest_line(call, box):
    await box.write("a.py", b"import os\n\ndef total(items):\n    return sum(items)\n")
    await call("read", path="a.py")
    output = await call("edit", path="a.py", old="    return sum(item)", new="x")
    assert output.errored
    assert "not in the file. The nearest line is 4: '    return sum(items)'" in output.text
    spaces = await call("edit", path="a.py", old="def total(items):\n\treturn sum(items)", new="x")
    assert "The nearest line is 3" in spaces.text
    assert "compare white space" in spaces.text
    nothing = await call("edit", path="a.py", old="@@@@", new="x")
    assert "No line is like it" in nothing.text
    assert await box.read("a.py") == b"import os\n\ndef total(items):\n    return sum(items)\n"


async def test_an_old_text_that_stands_several_times_is_counted_or_replaced_everywhere(call, box):
    await box.write("a", b"x\ny\nx\nx")
    await call("read", path="a")
    output = await call("edit", path="a", old="x", new="z")
    assert "stands 3 times in the file, at lines 1, 3, 4" in output.text
    assert (await call("edit", path="a", old="x", new="z", replace_all=True)).text == "Replaced 3 from line 1 in a."
    assert await box.read("a") == b"z\ny\nz\nz"


@pytest.mark.parametrize(("old", "new", "said"), [("", "x", "empty"), ("x", "x", "equal")])
async def test_an_edit_that_says_nothing_is_answered(call, box, old, new, said):
    await box.write("a", b"x")
    await call("read", path="a")
    output = await call("edit", path="a", old=old, new=new)
    assert output.errored
    assert said in output.text


async def test_windows_line_ends_stay_and_are_put_into_what_is_new(call, box):
    await box.write("a", b"one\r\ntwo\r\nthree\r\n")
    await call("read", path="a")
    assert not (await call("edit", path="a", old="one\ntwo", new="1\n2\n2.5")).errored
    assert not (await call("edit", path="a", old="three", new="3\n4")).errored
    assert await box.read("a") == b"1\r\n2\r\n2.5\r\n3\r\n4\r\n"


async def test_of_mixed_line_ends_those_at_the_place_are_kept(call, box):
    await box.write("a", b"one\r\ntwo\r\nthree\nfour\n")
    await call("read", path="a")
    assert not (await call("edit", path="a", old="three\nfour", new="3\n4")).errored
    assert not (await call("edit", path="a", old="one\ntwo", new="1\n2")).errored
    assert await box.read("a") == b"1\r\n2\r\n3\n4\n"


async def test_unix_line_ends_are_put_where_the_policy_writes_windows_ones(call, box):
    await box.write("a", b"one\ntwo\n")
    await call("read", path="a")
    assert not (await call("edit", path="a", old="one\r\ntwo", new="1\r\n2")).errored
    assert await box.read("a") == b"1\n2\n"


async def test_bytes_that_are_no_text_come_through_an_edit(call, box):
    await box.write("a", b"\xff\xfe x \xe4\n")
    await call("read", path="a")
    assert not (await call("edit", path="a", old="x", new="ü")).errored
    assert await box.read("a") == b"\xff\xfe \xc3\xbc \xe4\n"


async def test_permissions_stay_and_a_link_is_written_through(call, box):
    await box.exec("printf 'echo hi' > run.sh && chmod 751 run.sh && ln -s run.sh link", check=True)
    await call("read", path="link")
    assert not (await call("edit", path="link", old="hi", new="there")).errored
    state = await box.exec("stat -c '%a %F' run.sh && stat -c %F link && ./run.sh", check=True)
    assert state.stdout == b"751 regular file\nsymbolic link\nthere\n"


async def test_a_folder_a_pipe_and_what_may_not_be_written_are_answered(call, box):
    await box.exec("mkdir folder && mkfifo pipe", check=True)
    for path, said in (("folder", "is a folder"), ("pipe", "no regular file"), ("/etc/new", "/work"), ("a/", "")):
        output = await call("write", path=path, content="x")
        assert output.errored == (path != "a/")
        assert said in output.text
    assert "there is no file nope; use write" in (await call("edit", path="nope", old="a", new="b")).text


async def test_several_edits_are_made_in_order_or_none(call, box):
    await box.write("a", b"one two three")
    await call("read", path="a")
    edits = [{"old": "one", "new": "1"}, {"old": "1 two", "new": "12"}, {"old": "four", "new": "4"}]
    output = await call("multi_edit", path="a", edits=edits)
    assert output.errored
    assert output.text.startswith("error: edit 3 of 3: the old text is not in the file.")
    assert await box.read("a") == b"one two three"
    assert not (await call("multi_edit", path="a", edits=edits[:2])).errored
    assert await box.read("a") == b"12 three"


async def test_a_wrong_edit_among_several_is_named_by_its_place(call):
    output = await call("multi_edit", path="a", edits=[{"old": "a", "new": "b"}, {"old": "a", "now": "b"}])
    assert "the argument 'edits.1.new' is missing" in output.text
    assert "there is no argument 'edits.1.now'" in output.text


async def test_two_edits_at_once_do_not_undo_each_other(call, box):
    await call("write", path="a", content="one two")
    outputs = await asyncio.gather(
        call("edit", path="a", old="one", new="1"), call("edit", path="a", old="two", new="2")
    )
    assert not any(output.errored for output in outputs)
    assert await box.read("a") == b"1 2"


async def test_what_was_read_is_known_to_a_set_restored_from_a_checkpoint(call, kit, box):
    await box.write("a", b"x")
    await call("read", path="a")
    restored = FileLedger.restored(kit.ledger.state())
    edit = next(tool for tool in SandboxTools(box, ledger=restored).tools if tool.spec.name == "edit")
    assert not (await edit.call({"path": "a", "old": "x", "new": "y"})).errored
