"""Servers that die, hang, chatter, or leave processes behind: the agent gets an answer, and nothing is left."""

import asyncio

import pytest
from tests.agents.mcp.servers import offering, rude

from tumbler_agents.mcp.client import McpClient
from tumbler_agents.mcp.errors import McpServerError
from tumbler_agents.mcp.settings import McpServer


async def call(client):
    return await client.tools[0].call({})


async def test_a_server_that_dies_is_told_with_its_last_words_and_started_again_by_a_refresh(tmp_path):
    async with McpClient({"s": rude("dies", tmp_path / "pids")}) as client:
        listed = client.tools[0]
        for _attempt in range(2):
            output = await listed.call({})
            assert output.errored
            assert output.text == "error: s__go: the server has ended with exit code 3; its last words: out of cheese"
        assert not await client.refresh()
        assert (await listed.call({})).text == "gone"


async def test_a_server_over_http_that_vanishes_is_told_and_found_again_by_a_refresh(over_http):
    async with McpClient({"s": over_http.settings.model_copy(update={"include": ("add",)})}) as client:
        add = client.tools[0]
        await over_http.stop()
        output = await add.call({"a": 1, "b": 1})
        assert output.errored
        with pytest.raises(McpServerError):
            await client.refresh()
        assert (await add.call({"a": 1, "b": 1})).errored
        await over_http.start()
        assert not await client.refresh()
        assert (await add.call({"a": 1, "b": 1})).text == "2"


async def test_a_dead_server_is_noticed_where_a_child_keeps_its_output_open(tmp_path, gone):
    async with McpClient({"s": rude("orphan", tmp_path / "pids")}) as client:
        assert "has ended with exit code 4" in (await call(client)).text
    assert await gone() == 1


async def test_a_server_that_hangs_and_reads_nothing_more_is_given_up():
    async with McpClient({"s": rude("hangs", call_seconds=0.3)}) as client:
        outputs = await asyncio.gather(*(client.tools[0].call({"text": "x" * 100_000}) for _ in range(5)))
        assert {output.text for output in outputs} == {"error: s__go: no answer within 0.3 seconds"}


async def test_junk_among_the_messages_is_passed_over():
    async with McpClient({"s": rude("junk")}) as client:
        output = await call(client)
        assert (output.text, output.errored) == ("gone", False)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("closes", "onnection closed"),
        ("nonsense", "not what the protocol asks for"),
        ("refuses", "not like this"),
        ("endless", "onnection closed"),
    ],
)
async def test_what_is_no_result_is_answered_as_an_error(mode, said):
    async with McpClient({"s": rude(mode, call_seconds=60)}) as client:
        output = await call(client)
        assert output.errored
        assert said in output.text


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (rude("dead"), "cannot find my settings"),
        (rude("silent", start_seconds=0.5), "did not answer within 0.5 seconds"),
        (rude("no-list"), "does not tell its tools: no tools today"),
        (rude("twins"), "two tools would be named 's__a_b': 'a.b' of the MCP server 's' and 'a_b' of 's'"),
        (McpServer(command="/no/such/program"), "No such file"),
        (McpServer(command="true", cwd="/no/such/folder"), "No such file"),
    ],
)
async def test_a_server_that_does_not_start_is_raised_with_the_reason(server, said):
    with pytest.raises(McpServerError, match=said):
        await McpClient({"s": server}).open()


async def test_a_name_that_is_too_long_is_cut_to_a_distinct_one():
    async with McpClient({"s": rude("long")}) as client:
        name = client.tools[0].spec.name
        assert len(name) == 64
        assert name.startswith("s__nnn")
        assert not (await call(client)).errored


@pytest.mark.parametrize("mode", ["stubborn", "family"])
async def test_a_server_that_does_not_go_is_killed_with_its_children_wherever_they_are(tmp_path, gone, mode):
    async with McpClient({"s": rude(mode, tmp_path / "pids")}) as client:
        assert not (await call(client)).errored
    assert await gone() == {"stubborn": 1, "family": 3}[mode]


async def test_one_server_that_does_not_start_ends_the_others(tmp_path, gone):
    servers = {"good": rude("stubborn", tmp_path / "pids"), "bad": rude("dead")}
    with pytest.raises(McpServerError, match="'bad'"):
        await McpClient(servers).open()
    assert await gone() == 1


@pytest.mark.parametrize("moment", ["opening", "calling", "closing"])
async def test_a_cancelled_agent_leaves_no_process(tmp_path, gone, moment):
    mode = {"opening": "silent"}.get(moment, "family")
    client = McpClient({"noted": rude("stubborn", tmp_path / "pids"), "s": rude(mode, tmp_path / "pids")})

    async def agent():
        async with client:
            if moment == "calling":
                await asyncio.sleep(600)

    running = asyncio.create_task(agent())
    async with asyncio.timeout(30):
        while not (tmp_path / "pids").exists() or (moment == "calling" and not client.tools):
            await asyncio.sleep(0.01)
    if moment == "closing":
        while not client.tools:
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await gone() >= 1


def test_a_loop_that_ends_in_the_middle_leaves_no_process(tmp_path, gone):
    async def abandoned():
        client = McpClient({"s": rude("family", tmp_path / "pids")})
        await client.open()

    asyncio.run(abandoned())
    assert asyncio.run(gone()) == 3


async def test_many_clients_live_beside_each_other():
    async def one(number: int) -> str:
        async with McpClient({"s": offering(include=("add",))}) as client:
            return (await client.tools[0].call({"a": number, "b": 0})).text

    assert await asyncio.gather(*map(one, range(4))) == ["0", "1", "2", "3"]
