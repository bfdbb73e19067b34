"""Where conversations are kept: names, finding one again, and one process at a time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tumbler.cli.agents.keeping import About, KeptConversation, Shelves
from tumbler.errors import RunFolderError


def about(title="Mend the roof, please!", folder="/here", **fields):
    return About(title=title, folder=folder, agent="a", model="m", begun="now", **fields)


def keep(shelves, **fields) -> KeptConversation:
    kept = shelves.begin(about(**fields))
    kept.saved.write_text("{}")
    kept.close()
    return kept


def test_it_lies_in_the_users_state_folder(tmp_path, monkeypatch):
    assert Shelves.of_user({"XDG_STATE_HOME": str(tmp_path)}).history.is_relative_to(tmp_path / "tumbler")
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ({}, {"XDG_STATE_HOME": "relative"}):
        assert Shelves.of_user(unset).history.is_relative_to(tmp_path / ".local/state/tumbler")


def test_a_name_says_how_the_conversation_began(tmp_path):
    kept = keep(Shelves(tmp_path))
    assert kept.name.endswith("-mend-the-roof-please")
    assert kept.path.stat().st_mode & 0o777 == 0o700


def test_two_that_begin_alike_have_two_names(tmp_path):
    shelves = Shelves(tmp_path)
    assert keep(shelves).name != keep(shelves).name


@pytest.mark.parametrize("title", ["", "日本語", "../../etc", "a" * 500])
def test_no_beginning_leads_out_of_the_folder(tmp_path, title):
    kept = keep(Shelves(tmp_path), title=title)
    assert kept.path.parent == tmp_path and len(kept.name) < 64 and len(kept.about.title) <= 70


def test_the_last_one_is_the_last_about_this_folder(tmp_path):
    shelves = Shelves(tmp_path)
    mine = keep(shelves)
    keep(shelves, title="other", folder="/there")
    found = shelves.find("last", Path("/here"))
    found.close()
    assert found.name == mine.name


def test_a_part_of_a_name_will_do_where_it_is_the_only_one(tmp_path):
    shelves = Shelves(tmp_path)
    keep(shelves, title="mend the roof")
    other = keep(shelves, title="mend the floor")
    found = shelves.find("floor", Path("/here"))
    assert found.name == other.name
    found.close()
    with pytest.raises(RunFolderError, match="2 conversations have 'mend'"):
        shelves.find("mend", Path("/here"))


@pytest.mark.parametrize("wanted", ["last", "nothing"])
def test_what_is_not_there_is_said_with_what_is(tmp_path, wanted):
    shelves = Shelves(tmp_path)
    with pytest.raises(RunFolderError, match="none was kept so far"):
        shelves.find(wanted, Path("/here"))
    kept = keep(shelves, folder="/there")
    with pytest.raises(RunFolderError, match=kept.name):
        shelves.find(wanted, Path("/here"))


def test_one_process_has_it_at_a_time(tmp_path):
    shelves = Shelves(tmp_path)
    kept = keep(shelves)
    held = shelves.find(kept.name, Path("/here"))
    with pytest.raises(RunFolderError, match="open already, here or in another process"):
        shelves.find(kept.name, Path("/here"))
    held.close()
    shelves.find(kept.name, Path("/here")).close()


def test_one_in_which_nothing_was_saved_is_no_conversation(tmp_path):
    shelves = Shelves(tmp_path)
    shelves.begin(about()).close()
    assert shelves.listed() == []


def test_a_listing_has_those_about_this_folder_first(tmp_path):
    shelves = Shelves(tmp_path)
    mine = keep(shelves)
    keep(shelves, title="other", folder="/there")
    lines = shelves.described(Path("/here")).splitlines()
    assert lines[0].startswith(mine.name) and lines[1].endswith("[/there]")


def test_what_the_person_says_is_counted(tmp_path):
    kept = Shelves(tmp_path).begin(about())
    kept.count()
    kept.close()
    assert kept.about.messages == 2


def test_a_file_of_another_version_is_named(tmp_path):
    kept = keep(Shelves(tmp_path))
    (kept.path / "about.json").write_text('{"odd": 1}')
    with pytest.raises(RunFolderError, match="another version"):
        _ = kept.about


def test_a_damaged_one_hides_no_other(tmp_path):
    shelves = Shelves(tmp_path)
    mine, broken = keep(shelves), keep(shelves, title="broken")
    (broken.path / "about.json").write_text('{"title":')
    found = shelves.find("last", Path("/here"))
    found.close()
    assert found.name == mine.name
    assert mine.name in shelves.described(Path("/here"))


def test_those_that_begin_at_once_have_folders_of_their_own(tmp_path):
    shelves = Shelves(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _each: shelves.begin(about()), range(32)))
    for kept in begun:
        kept.close()
    assert len({kept.name for kept in begun}) == 32
