"""What the package offers, and what it keeps out."""

import subprocess
import sys

import tumbler.registry
from tumbler.registry.annotations import keys_at, secret_paths
from tumbler.registry.model import RegistryFile


def test_every_public_name_exists():
    assert sorted(tumbler.registry.__all__) == list(tumbler.registry.__all__)
    assert all(hasattr(tumbler.registry, name) for name in tumbler.registry.__all__)


def test_importing_the_registry_imports_nothing_heavy():
    script = "import sys, tumbler.registry; sys.exit(' '.join({'torch', 'transformers'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_known_keys_are_found_through_tables_of_tables():
    assert "turns" in keys_at(RegistryFile, ("runs", "any", "limits"))
    assert "schema" in keys_at(RegistryFile, ())
    assert keys_at(RegistryFile, ("runs", "any", "env", "x")) == set()


def test_secrets_are_found_in_lists_unions_and_tables():
    from pydantic import BaseModel, SecretBytes, SecretStr

    class Inner(BaseModel):
        token: SecretStr | None = None
        plain: str = ""

    class Outer(BaseModel):
        first: SecretBytes
        many: list[SecretStr] = []
        pair: tuple[str, SecretStr] = ("", SecretStr(""))
        inner: Inner | None = None
        by_name: dict[str, Inner] = {}

    value = {
        "first": "a",
        "many": ["b", "c"],
        "pair": ["d", "e"],
        "inner": {"token": "f", "plain": "g"},
        "by_name": {"x": {"token": None}, "y": {"token": "h"}},
    }
    assert set(secret_paths(Outer, value)) == {
        ("first",),
        ("many", 0),
        ("many", 1),
        ("pair", 1),
        ("inner", "token"),
        ("by_name", "y", "token"),
    }
