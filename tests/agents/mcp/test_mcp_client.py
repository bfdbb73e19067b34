"""The client against real servers: one of the protocol's own, one made with its library over both transports."""

import asyncio
import json
import sys

import pytest
from tests.agents.mcp.servers import offering

from tumbler_agents.mcp.client import McpClient
from tumbler_agents.mcp.errors import McpServerError
from tumbler_agents.mcp.settings import McpServer

TIME = McpServer(command=sys.executable, args=("-m", "mcp_server_time", "--local-timezone=UTC"))


def by_name(client):
    return {tool.spec.name: tool for tool in client.tools}


async def test_the_time_server_of_the_package_index_tells_and_converts_times():
    async with McpClient({"time": TIME}) as client:
        tools = by_name(client)
        assert set(tools) == {"time__get_current_time", "time__convert_time"}
        assert tools["time__convert_time"].spec.parameters["required"]
        times = {"source_timezone": "UTC", "target_timezone": "Asia/Tokyo", "time": "12:00"}
        output = await tools["time__convert_time"].call(times)
        assert not output.errored
        assert json.loads(output.text)["target"]["datetime"].endswith("21:00:00+09:00")
        wrong = await tools["time__get_current_time"].call({"timezone": "Nowhere/Land"})
        assert wrong.errored
        assert "Nowhere/Land" in wrong.text
        assert (await tools["time__get_current_time"].call({})).errored


async def test_every_kind_of_content_is_put_into_words(server):
    async with McpClient({"s": server}) as client:
        output = await by_name(client)["s__kinds"].call({})
        assert not output.errored
        assert output.text.split("\n") == [
            "words",
            "[image (image/png, 5 bytes), which cannot be shown]",
            "[audio (audio/wav, 5 bytes), which cannot be shown]",
            "[resource file:///a.txt]",
            "held",
            "[resource file:///b.bin (of unknown kind, 5 bytes), which cannot be shown]",
            "[resource file:///c.txt (c): the third]",
        ]


async def test_results_and_errors_come_back_over_either_transport(server):
    async with McpClient({"s": server}) as client:
        tools = by_name(client)
        assert (await tools["s__add"].call({"a": 2, "b": 40})).text == "42"
        failed = await tools["s__fail"].call({"reason": "the moon"})
        assert failed.errored
        assert "the moon" in failed.text
        assert (await tools["s__add"].call({"a": "many"})).errored
        sums = await asyncio.gather(*(tools["s__add"].call({"a": n, "b": n}) for n in range(20)))
        assert [output.text for output in sums] == [str(2 * n) for n in range(20)]


async def test_a_call_past_its_time_is_answered_and_the_next_one_works(server):
    hasty = server.model_copy(update={"call_seconds": 0.5})
    async with McpClient({"s": hasty}) as client:
        tools = by_name(client)
        output = await tools["s__wait"].call({"seconds": 600})
        assert output.errored
        assert output.text == "error: s__wait: no answer within 0.5 seconds"
        assert (await tools["s__add"].call({"a": 1, "b": 1})).text == "2"


async def test_a_call_that_is_cancelled_leaves_the_connection_usable(server):
    async with McpClient({"s": server}) as client:
        tools = by_name(client)
        waiting = asyncio.create_task(tools["s__wait"].call({"seconds": 600}))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await tools["s__add"].call({"a": 1, "b": 1})).text == "2"


async def test_the_list_stays_as_it_was_until_it_is_refreshed(server):
    async with McpClient({"s": server}) as client:
        before = [tool.spec for tool in client.tools]
        old = by_name(client)
        assert not await client.refresh()
        await old["s__grow"].call({})
        assert [tool.spec for tool in client.tools] == before
        assert await client.refresh()
        assert [tool.spec for tool in client.tools][: len(before)] == before
        assert (await by_name(client)["s__grown"].call({})).text == "new"
        assert (await old["s__add"].call({"a": 1, "b": 1})).text == "2"


async def test_tools_are_chosen_named_and_trusted_as_the_settings_say():
    settings = {
        "a": offering(include=("add", "*_text"), prefix="", trust_hints=True),
        "b": offering(exclude=("[!o]*",), prefix="other"),
        "c": offering(include=("add", "fail"), exclude=("fail",)),
    }
    async with McpClient(settings) as client:
        assert [tool.spec.name for tool in client.tools] == [
            "add",
            "long_text",
            "other__odd_name_with_spaces",
            "c__add",
        ]
        assert [tool.reads_only for tool in client.tools] == [True, False, False, False]
        assert (await by_name(client)["other__odd_name_with_spaces"].call({})).text == "odd"


async def test_two_tools_of_one_name_are_refused_with_both_servers():
    servers = {name: offering(include=("add",), prefix="same") for name in ("a", "b")}
    with pytest.raises(McpServerError, match="two tools would be named 'same__add': 'add' of the MCP server 'a'"):
        await McpClient(servers).open()


@pytest.mark.parametrize("setting", ["include", "exclude"])
async def test_a_chosen_tool_that_the_server_does_not_offer_is_refused_with_a_hint(setting):
    with pytest.raises(McpServerError, match=r"name 'ad', but it offers no such tool\. Did you mean 'add'\?"):
        await McpClient({"s": offering(**{setting: ("ad",)})}).open()


async def test_a_long_answer_is_bounded_and_counted():
    async with McpClient({"s": offering(output_chars=1000)}) as client:
        text = (await by_name(client)["s__long_text"].call({"lines": 100_000})).text
        assert len(text) < 1100
        assert (text.split("\n")[0], text.split("\n")[-1]) == ("0", "99999")
        assert "left out" in text


async def test_a_server_sees_few_variables_and_the_given_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    settings = offering(env={"PLAIN": "1"}, secret_env={"TOKEN": "2"}, cwd=str(tmp_path))
    async with McpClient({"s": settings}) as client:
        seen = json.loads((await by_name(client)["s__environment"].call({})).text)
        assert (seen["PLAIN"], seen["TOKEN"]) == ("1", "2")
        own = {"PLAIN", "TOKEN", "TUMBLER_MCP_SERVER", "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR"}
        assert set(seen) <= own | {"LC_CTYPE"}  # Python sets this one itself
        assert (await by_name(client)["s__folder"].call({})).text == str(tmp_path)


async def test_it_is_opened_used_and_closed_by_three_different_tasks(server):
    client = McpClient({"s": server})
    await asyncio.create_task(client.open())
    output = await asyncio.create_task(by_name(client)["s__add"].call({"a": 1, "b": 2}))
    assert output.text == "3"
    await asyncio.create_task(client.close())
    await client.close()
    closed = await by_name(client)["s__add"].call({"a": 1, "b": 2})
    assert closed.errored
    assert "has ended" in closed.text


async def test_a_refused_request_over_http_is_told_at_the_start(over_http):
    stranger = over_http.settings.model_copy(update={"secret_headers": {}})
    with pytest.raises(McpServerError, match="the MCP server 's' did not start"):
        await McpClient({"s": stranger}).open()


async def test_a_server_that_nobody_runs_is_told_at_the_start():
    nowhere = McpServer(url="http://127.0.0.1:9/mcp")
    with pytest.raises(McpServerError, match="All connection attempts failed"):
        await McpClient({"s": nowhere}).open()
