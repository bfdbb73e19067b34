"""Versions that are required, and versions of two processes."""

import pytest

from tumbler.plugins import check_requirements, compare_versions


def test_a_met_requirement_is_no_problem(site):
    site.add("tumbler-hiking", "0.4.1", {})
    assert check_requirements(["tumbler-hiking>=0.4", "Tumbler_Hiking", "tumbler-hiking<1,!=0.3"]) == []


def test_a_prerelease_counts_as_installed(site):
    site.add("tumbler-hiking", "0.5.dev1", {})
    assert check_requirements(["tumbler-hiking>=0.4"]) == []


def test_an_old_version_is_named_with_the_command_that_mends_it(site):
    site.add("tumbler-hiking", "0.3", {})
    (problem,) = check_requirements(["tumbler-hiking>=0.4"])
    assert "tumbler-hiking 0.3 is installed" in problem
    assert "pip install 'tumbler-hiking>=0.4'" in problem


def test_a_missing_distribution_is_named_with_the_command_that_installs_it(site):
    (problem,) = check_requirements(["tumbler-nowhere>=0.4"])
    assert "not installed" in problem
    assert problem.endswith("pip install 'tumbler-nowhere>=0.4'")


def test_a_requirement_for_other_platforms_is_skipped(site):
    assert check_requirements(["tumbler-nowhere; python_version < '3'"]) == []


def test_every_problem_is_listed(site):
    assert len(check_requirements(["tumbler-nowhere", "also-nowhere", "not a requirement"])) == 3


@pytest.mark.parametrize(
    ("parent", "own", "said"),
    [
        ({"a": ("dist", "1")}, {}, "in the parent but not in this process"),
        ({}, {"a": ("dist", "1")}, "in this process but not in the parent"),
        ({"a": ("dist", "1")}, {"a": ("dist", "2")}, "is dist 1 in the parent but dist 2 here"),
    ],
)
def test_differences_between_two_processes_are_told(parent, own, said):
    (problem,) = compare_versions(parent, own)
    assert "'a'" in problem
    assert said in problem
