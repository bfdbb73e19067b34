"""Dialects are found by name, and cost nothing to import."""

import subprocess
import sys

import pytest

import tumbler.dialects
from tumbler.dialects import DIALECTS, dialect
from tumbler.errors import ComponentNotFoundError


def test_each_dialect_is_found_by_its_own_name() -> None:
    assert {name: dialect(name).name for name in DIALECTS} == {"hermes": "hermes", "plain": "plain"}
    assert sorted(tumbler.dialects.__all__) == ["DIALECTS", "dialect"]


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(ComponentNotFoundError, match=r"no dialect 'hermess'\. Did you mean 'hermes'\?"):
        dialect("hermess")


def test_dialects_import_nothing_heavy() -> None:
    heavy = "{'torch', 'pydantic', 'transformers', 'jinja2'}"
    code = f"import sys, tumbler.dialects; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
