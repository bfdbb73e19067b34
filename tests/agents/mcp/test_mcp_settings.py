"""The settings of a server, and the names of tools."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tumbler_agents.mcp.naming import legal_name
from tumbler_agents.mcp.settings import McpServer


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "either a command or a url"),
        ({"command": "a", "url": "http://b"}, "either a command or a url"),
        ({"command": "a", "headers": {"b": "c"}}, "headers cannot be set for a server with a command"),
        ({"url": "http://a", "args": ["b"], "cwd": "/"}, "args, cwd cannot be set for a server with a url"),
        ({"url": "ftp://a"}, "http:// or https://"),
        ({"command": "a", "env": {"B": "c"}, "secret_env": {"B": "d"}}, "both plainly and as a secret: B"),
        ({"command": "a", "prefix": "b.c"}, "prefix"),
        ({"command": "a", "comand": "b"}, "comand"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        McpServer.model_validate(settings)


def test_secrets_are_not_shown_and_only_their_users_get_them():
    server = McpServer.model_validate({"url": "https://a", "headers": {"X": "1"}, "secret_headers": {"Key": "sesame"}})
    assert "sesame" not in repr(server) + server.model_dump_json()
    assert server.all_headers() == {"X": "1", "Key": "sesame"}


@given(st.text(max_size=40), st.text(min_size=1, max_size=100))
def test_each_name_is_legal_for_every_interface(prefix, name):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", legal_name(prefix, name))


def test_names_that_are_cut_stay_distinct():
    assert legal_name("s", "n" * 80) != legal_name("s", "n" * 81)
    assert legal_name("", "plain") == "plain"
