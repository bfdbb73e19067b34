"""The plugin as a whole: found, light, well formed; its registry has no problem."""

from collections.abc import Callable
from pathlib import Path

from tumbler.plugins import PluginHost
from tumbler.registry import check_registry, read_registry
from tumbler.testing import check_plugin


def test_nothing_is_wrong_with_the_plugin() -> None:
    assert check_plugin("hello") == []


def test_it_offers_its_components(tumbler_host: Callable[..., PluginHost]) -> None:
    offered = {each.id for each in tumbler_host("hello").components() if each.plugin == "hello"}
    assert offered == {"hello/guess", "hello/best-of", "hello/keep-last", "hello/sequential"}


def test_its_registry_has_no_problem(tumbler_host: Callable[..., PluginHost]) -> None:
    registry = read_registry(Path(__file__).parents[1] / "registry.toml")
    assert [each for each in check_registry(registry, tumbler_host("hello")) if each.severity == "error"] == []
