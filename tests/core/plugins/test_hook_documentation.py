"""Each hook is documented with an example that compiles, runs and has the hook's own arguments."""

import inspect
import re
import subprocess
import sys
from textwrap import dedent

import pytest

from tumbler import hookspecs, observers
from tumbler.markers import PROJECT
from tumbler.plugins.hooks import new_plugin_manager
from tumbler.plugins.offers import REGISTRATION_HOOKS
from tumbler.specs import KINDS

HOOKS = {
    name: function
    for module in (hookspecs, observers)
    for name, function in vars(module).items()
    if hasattr(function, f"{PROJECT}_spec")
}


def example(name: str) -> str:
    blocks = re.findall(r"Example:\n\s+```python\n(.*?)\n\s+```", HOOKS[name].__doc__ or "", flags=re.DOTALL)
    assert len(blocks) == 1, f"{name} must have one example"
    return dedent(blocks[0])


def parameters(function) -> list[tuple[str, str]]:
    return [(each.name, annotation(each.annotation)) for each in inspect.signature(function).parameters.values()]


def annotation(value: object) -> str:
    return value.__name__ if inspect.isclass(value) else str(value)


def test_pluggy_knows_exactly_the_documented_hooks():
    hooks = {name for name in vars(new_plugin_manager().hook) if not name.startswith("_")}
    assert hooks == HOOKS.keys()
    assert {name for name in HOOKS if hasattr(hookspecs, name)} == REGISTRATION_HOOKS.keys()
    assert set(REGISTRATION_HOOKS.values()) == KINDS.keys()


@pytest.mark.parametrize("module", [hookspecs, observers])
def test_every_hook_is_public(module):
    assert {name for name in HOOKS if hasattr(module, name)} <= set(module.__all__)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_docstring(name):
    assert HOOKS[name].__doc__
    assert HOOKS[name].__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", HOOKS)
def test_an_example_implements_its_hook_with_exactly_its_arguments(name):
    namespace: dict[str, object] = {}
    exec(compile(example(name), f"<example of {name}>", "exec"), namespace)
    implementation = namespace[name]
    assert hasattr(implementation, f"{PROJECT}_impl")
    assert parameters(implementation) == parameters(HOOKS[name])


@pytest.mark.parametrize("name", REGISTRATION_HOOKS)
def test_an_example_returns_specs_of_the_hooks_kind(name):
    namespace: dict[str, object] = {}
    exec(compile(example(name), f"<example of {name}>", "exec"), namespace)
    (spec,) = namespace[name]()
    assert type(spec) is KINDS[REGISTRATION_HOOKS[name]]


@pytest.mark.parametrize("name", HOOKS)
def test_an_example_loads_as_a_plugin(site, name):
    site.write("example_plugin.py", example(name))
    site.add("example-dist", "1.0", {"example": "example_plugin"})
    host = site.load()
    assert host.check() == []
    assert host.plugin("example").hooks == (name,)


def test_no_example_imports_anything_heavy():
    source = "\n".join(example(name) for name in HOOKS)
    check = f"{source}\nimport sys\nassert not {{'pydantic', 'torch', 'transformers'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check], check=True)
