"""Names and suggestions."""

import pytest

from tumbler.plugins.names import did_you_mean, is_well_formed, normalise


@pytest.mark.parametrize("name", ["a", "ipa", "local-lm", "e2b", "mask-observations", "gpt-4"])
def test_words_joined_by_hyphens_are_well_formed(name):
    assert is_well_formed(name)


@pytest.mark.parametrize("name", ["", "A", "a_b", "a--b", "-a", "a-", "2b", "a b", "a/b", "a.b", "é", "a\n"])
def test_anything_else_is_not(name):
    assert not is_well_formed(name)


@pytest.mark.parametrize("name", ["tumbler-mini-grid", "Tumbler_Mini.Grid", "tumbler--mini__grid"])
def test_distribution_names_are_compared_as_indexes_do(name):
    assert normalise(name) == "tumbler-mini-grid"


def test_close_names_come_before_all_others():
    assert did_you_mean("gama", ["gamma", "epsilon"]) == "Did you mean 'gamma'?"
    assert did_you_mean("walker", ["hiking/walker", "x"]) == "Did you mean 'hiking/walker'?"
    assert did_you_mean("walke", ["walked", "walker"]) == "Did you mean 'walker' or 'walked'?"


def test_without_close_names_ten_are_listed_and_the_rest_counted():
    names = [f"name-{index:02}" for index in range(13)]
    assert did_you_mean("zzz", names) == f"There are: {', '.join(names[:10])} and 3 more."
    assert did_you_mean("zzz", []) == "There are none."
