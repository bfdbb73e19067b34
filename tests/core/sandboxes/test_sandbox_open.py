"""A sandbox backend is opened by its component id."""

import pytest

from tumbler.errors import ComponentNotFoundError, RegistryError, SandboxUnavailable
from tumbler.sandboxes import SyncBackend, open_backend
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend


async def test_a_backend_is_opened_and_closed(tumbler_host, tmp_path):
    settings = {"root": str(tmp_path / "sandboxes")}
    async with open_backend("bubblewrap", settings, host=tumbler_host()) as backend:
        assert isinstance(backend, BubblewrapBackend)
        assert list((tmp_path / "sandboxes").iterdir())
    assert not list((tmp_path / "sandboxes").iterdir())


async def test_what_makes_no_sandboxes_is_refused(tumbler_host):
    with pytest.raises(ComponentNotFoundError, match=r"'local' makes no sandboxes; those that do: .*bubblewrap"):
        async with open_backend("local", host=tumbler_host()):
            raise AssertionError("it was opened")


async def test_settings_are_checked(tumbler_host):
    with pytest.raises(RegistryError, match="colour"):
        async with open_backend("bubblewrap", {"colour": "red"}, host=tumbler_host()):
            raise AssertionError("it was opened")


def test_the_facade_opens_by_id_too(tumbler_host, tmp_path):
    settings = {"root": str(tmp_path / "sandboxes")}
    with SyncBackend.open("bubblewrap", settings, host=tumbler_host()) as backend, backend.create() as box:
        assert box.exec("echo on").stdout == b"on\n"


async def test_a_backend_that_knows_little_before_its_start_is_built(tumbler_host):
    """Nothing listens there, so only its start fails."""
    with pytest.raises(SandboxUnavailable, match="does not answer"):
        async with open_backend("remote", {"url": "http://127.0.0.1:9", "start_seconds": 0}, host=tumbler_host()):
            raise AssertionError("it was started")
    backend = SyncBackend.open("remote", {"url": "http://127.0.0.1:9"}, host=tumbler_host())
    assert backend.capabilities.attach
