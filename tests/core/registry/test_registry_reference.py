"""The reference pages say what the models say."""

import importlib.util
import re
from pathlib import Path

import pytest

from tumbler.registry.reference import registry_page, settings_page

GENERATOR = Path(__file__).parents[3] / "docs" / "generate.py"


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("docs_generate", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_the_committed_pages_are_current(pages):
    stale = [path.name for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run: python docs/generate.py"


def test_every_key_has_a_meaning(pages):
    for path, text in pages.items():
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert rows
        assert [row for row in rows if re.search(r"\|\s+\|$", row)] == [], path.name


def test_the_registry_page_lists_types_limits_and_defaults():
    page = registry_page()
    assert "| `top_p` | number, > 0, ≤ 1 | `1.0` | Probability mass to sample from; 1 keeps all. |" in page
    assert '| `stages` | list of `"sft"`, `"rl"`, `"eval"` |' in page
    assert "| `env` | name or table | – |" in page


def test_the_settings_page_lists_each_component_with_its_settings(host):
    page = settings_page(host)
    assert "### `shop/maze`\n\nGet out.\n\nNeeds: sandbox.\n" in page
    assert "| `size` | integer | required | Cells along one side. |" in page
    assert '| `api_key` | `{ env = "NAME" }` | required | The key. |' in page
    assert "| `retry.attempts` | integer | `3` |" in page
    assert "Roles: training. Install with: `pip install 'tumbler[absent]'`." in page
    assert "built-in" not in page


def test_a_bar_in_a_description_does_not_break_the_table():
    from pydantic import Field

    from tumbler.config import Settings
    from tumbler.registry.reference import _keys

    class Barred(Settings):
        mode: str = Field(default="a|b", description="Either a|b.")

    assert '| `mode` | text | `"a\\|b"` | Either a\\|b. |' in _keys(Barred)
