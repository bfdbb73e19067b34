"""GEM's make, reset, step and close over HTTP."""

import asyncio
import json

import pytest

from tumbler.contracts.environment import EnvironmentCapabilities, Observation, StepResult, Task, Verdict
from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.values import ToolSpec
from tumbler.errors import RegistryError

COUNT = ToolSpec(
    name="count",
    description="Say a number.",
    parameters={"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
)


class Counting:
    """Say the number that the seed draws; the third wrong one ends the episode."""

    capabilities = EnvironmentCapabilities(needs_sandbox=True)

    def __init__(self, settings) -> None:
        if "refuse" in settings:
            raise RegistryError("settings.refuse: unknown")
        self.closed, self.said, self.sandbox = 0, [], None
        self._tools = [COUNT, ToolSpec(name="other", description="Another.")] if settings.get("two") else [COUNT]

    async def tasks(self, split, *, count, seed):
        return [Task(id=f"{split}-{seed}", instruction=f"Say {seed}.", metadata={"answer": str(seed)})]

    def tools(self):
        return self._tools

    def sandbox_spec(self, task):
        return SandboxSpec(labels={"task": task.id})

    async def reset(self, task, *, seed, sandbox):
        self.answer, self.said, self.sandbox = task.metadata["answer"], [], sandbox
        return Observation(text="It begins.")

    async def step(self, call):
        number = call.arguments.get("number")
        if number == "crash":
            raise ZeroDivisionError("a defect of the environment")
        self.said.append(number)
        right = number == self.answer
        return StepResult(
            observation="right" if right else "wrong",
            reward=0.25,
            terminated=right or len(self.said) == 3,
            info={"tool": call.name},
        )

    async def verify(self):
        return Verdict(reward=1.0, success=True) if self.answer in self.said else Verdict(reward=0.0, success=False)

    async def close(self):
        self.closed += 1


@pytest.fixture
def made(environments):
    """Offer `counting` and `pack/counting`; return the instances that are built."""
    built = []

    def build(settings):
        built.append(Counting(settings))
        return built[-1]

    environments.builders.update({"counting": build, "pack/counting": build})
    return built


class Player:
    def __init__(self, client, instance: str) -> None:
        self.client, self.path = client, f"/v1/environments/{instance}"

    @classmethod
    async def make(cls, client, name: str = "counting", **body) -> "Player":
        answer = await client.post(f"/v1/environments/{name}/make", json=body)
        assert answer.status_code == 201, answer.text
        return cls(client, answer.json()["instance"])

    async def ask(self, verb: str, status: int = 200, **body) -> dict:
        answer = await self.client.post(f"{self.path}/{verb}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else {}


async def test_an_episode_is_played_with_texts(serve, made, pretended):
    player = await Player.make((await serve())())
    begun = await player.ask("reset", seed=7)
    assert begun["observation"].startswith("Say 7.\n\nIt begins.\n\n")
    assert "count: Say a number." in begun["observation"]
    assert begun["info"]["task"] == "train-7"
    assert "answer" not in json.dumps(begun)
    wrong = await player.ask("step", action="3")
    assert (wrong["observation"], wrong["reward"], wrong["terminated"]) == ("wrong", 0.25, False)
    right = await player.ask("step", action='{"name": "count", "arguments": {"number": "7"}}')
    assert (right["observation"], right["reward"], right["terminated"]) == ("right", 1.25, True)
    assert (right["truncated"], right["info"]["success"], right["info"]["verdict"]) == (False, True, 1.0)
    assert (await player.ask("step", 409, action="7"))["error"] == "ContractError"
    assert (await player.ask("reset", seed=8))["info"]["task"] == "train-8"
    living = [box for box in pretended.sandboxes.values() if not box.gone.is_set()]
    assert [box.spec.labels["task"] for box in living] == ["train-8"]
    await player.ask("close", 204)
    assert made[0].closed
    assert all(box.gone.is_set() for box in pretended.sandboxes.values())
    await player.ask("step", 404, action="7")


async def test_an_episode_is_finished_by_the_model_or_cut_off(serve, made):
    client = (await serve())()
    player = await Player.make(client, split="held-out", max_turns=2)
    assert (await player.ask("reset", seed=1))["info"]["task"] == "held-out-1"
    finished = await player.ask("step", action='{"name": "finish"}')
    assert (finished["terminated"], finished["truncated"], finished["reward"]) == (True, False, 0.0)
    await player.ask("reset", seed=1)
    assert not (await player.ask("step", action="5"))["truncated"]
    cut = await player.ask("step", action="6")
    assert (cut["terminated"], cut["truncated"], cut["info"]["success"]) == (False, True, False)


async def test_what_is_no_action_is_answered_and_not_refused(serve, made):
    player = await Player.make((await serve())(), "pack/counting", settings={"two": True})
    await player.ask("reset", seed=1)
    for action in ("1", "", "[1]", '{"name": "count", "arguments": 1}', "[" * 10_000):
        turn = await player.ask("step", action=action)
        assert "no tool call" in turn["observation"]
        assert turn["info"]["errored"]
    assert (await player.ask("step", action='{"name": "other"}'))["info"]["tool"] == "other"


async def test_mistakes_and_defects_have_their_classes(serve, made):
    client = (await serve())()
    assert (await client.get("/v1/environments")).json() == ["counting", "pack/counting"]
    unknown = await client.post("/v1/environments/no-such/make", json={})
    assert (unknown.status_code, unknown.json()["error"]) == (404, "ComponentNotFoundError")
    refused = await client.post("/v1/environments/counting/make", json={"settings": {"refuse": 1}})
    assert refused.status_code == 422
    player = await Player.make(client)
    await player.ask("step", 409, action="1")
    await player.ask("reset", seed=1)
    broken = await player.ask("step", 502, action="crash")
    assert "ZeroDivisionError: a defect" in broken["message"]


async def test_an_idle_instance_is_closed_and_its_sandbox_deleted(serve, made, pretended):
    player = await Player.make((await serve(environment_idle=0.3))())
    await player.ask("reset", seed=1)
    async with asyncio.timeout(30):
        while not made[0].closed or not all(box.gone.is_set() for box in pretended.sandboxes.values()):
            await asyncio.sleep(0.05)
    await player.ask("step", 404, action="1")


async def test_instances_belong_to_their_tenant_and_are_counted(serve, made):
    tenants = [{"name": name, "token": f"token-of-{name}-00001", "max_environments": 1} for name in ("alice", "bob")]
    client = await serve(tenants=tenants)
    player = await Player.make(client("token-of-alice-00001"))
    refused = await client("token-of-alice-00001").post("/v1/environments/counting/make", json={})
    assert (refused.status_code, refused.json()["error"]) == (429, "QuotaExceeded")
    thief = Player(client("token-of-bob-00001"), player.path.rpartition("/")[2])
    for verb in ("reset", "close"):
        await thief.ask(verb, 404)
    await player.ask("close", 204)
    await Player.make(client("token-of-alice-00001"))


async def test_the_end_of_the_service_closes_what_is_open(pretended, environments, made):
    import httpx

    from tumbler_backends.sandbox.service.service import HttpService
    from tumbler_backends.sandbox.service.settings import ServiceSettings

    url = asyncio.get_running_loop().create_future()
    service = HttpService(ServiceSettings(port=0, shutdown_seconds=1))
    serving = asyncio.ensure_future(service.serve(pretended, environments=environments, on_ready=url.set_result))
    async with httpx.AsyncClient(base_url=await url, trust_env=False) as client:
        await (await Player.make(client)).ask("reset", seed=1)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert made[0].closed
    assert pretended.closed
