"""New weights: how they get to the servers, what becomes of replies in progress, and that wrong ones are noticed."""

import asyncio
from dataclasses import replace

import pytest
import torch
from tests.backends.inference.vllm.double import TinyEngine
from transformers import AutoModelForCausalLM

from tumbler.contracts.inference import Canary, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.vllm.reports import require_served
from tumbler_backends.inference.vllm.transfer import Weights


def tensors_of(folder, change=lambda tensors: tensors):
    weights = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    return lambda: change(weights).items()


def canary_of(folder, ids=(5, 6, 7, 8)):
    return Canary(token_ids=ids, logprobs=tuple(TinyEngine(folder, {"max_model_len": 512}).score(ids)))


@pytest.mark.parametrize("source", ["tensors", "folder"])
async def test_new_weights_are_served_from_the_next_request_on(source, serve, ask, models):
    backend = await serve()
    first = await backend.generate(ask(session="s"))
    update = {"tensors": tensors_of(models[1])} if source == "tensors" else {"folder": models[1]}
    await backend.update_weights(WeightUpdate(version=7, canary=canary_of(models[1]), **update))
    reply = await backend.generate(ask(session="s"))
    assert (first.policy_version, reply.policy_version, reply.cached_tokens) == (0, 7, 0)
    assert reply.logprobs != first.logprobs


async def test_an_update_of_some_weights_is_completed_with_the_models_own(serve, ask, models):
    backend = await serve()
    first = await backend.generate(ask())

    def one_norm(tensors):
        name = next(name for name in tensors if "norm" in name)
        return {name: tensors[name]}

    await backend.update_weights(WeightUpdate(version=1, tensors=tensors_of(models[0], one_norm), partial=True))
    reply = await backend.generate(ask())
    assert (reply.policy_version, reply.token_ids) == (1, first.token_ids)
    with pytest.raises(InferenceError, match="is missing"):
        await backend.update_weights(WeightUpdate(version=2, tensors=tensors_of(models[0], one_norm)))


async def test_new_weights_do_not_wait_for_a_server_that_is_coming_back(serve, stand, ask, models):
    one, other = await stand(), await stand()
    addresses = [*one.settings["addresses"], *other.settings["addresses"]]
    backend = await serve(**{**one.settings, "addresses": addresses}, start_timeout=60.0)
    await one.kill()
    async with asyncio.timeout(20):
        while not backend.metrics()["restarts"]:  # a request finds out that the server is gone
            await backend.generate(ask())
        await backend.update_weights(WeightUpdate(version=3, tensors=tensors_of(models[1])))
        assert (await backend.generate(ask())).policy_version == 3


async def test_a_reply_that_is_broken_off_goes_on_under_the_new_weights(serve, stand, ask, models):
    server = await stand(delay=0.01)
    backend = await serve(**server.settings)
    task = asyncio.create_task(backend.generate(ask(max_tokens=200, session="s")))
    await server.has_sampled(3)
    await backend.update_weights(WeightUpdate(version=4, tensors=tensors_of(models[1])))
    reply = await task
    assert reply.policy_version == 0, "the version is the oldest among the tokens"
    assert len(reply.logprobs) == len(reply.token_ids)
    assert reply.finish_reason == "stop" or len(reply.token_ids) == 200
    assert backend.metrics()["replies_resumed"] == 1
    old, new = (TinyEngine(folder, {"max_model_len": 512}) for folder in models)
    sequence = [9, *reply.token_ids]
    under_old, under_new = old.score(sequence), new.score(sequence)
    switch = next(index for index, value in enumerate(reply.logprobs) if value != pytest.approx(under_old[index]))
    assert switch >= 3
    assert reply.logprobs[switch:] == pytest.approx(under_new[switch:])


async def test_with_drain_replies_in_progress_are_finished_first(serve, stand, ask, models):
    server = await stand(delay=0.01)
    backend = await serve(on_update="drain", **server.settings)
    task = asyncio.create_task(backend.generate(ask(max_tokens=60)))
    await server.has_sampled(1)
    await backend.update_weights(WeightUpdate(version=4, folder=models[1]))
    reply = await task
    old = TinyEngine(models[0], {"max_model_len": 512})
    assert reply.logprobs == pytest.approx(old.score([9, *reply.token_ids]))
    assert backend.metrics()["replies_resumed"] == 0
    assert (await backend.generate(ask())).policy_version == 4


async def test_all_replicas_serve_the_new_weights(serve, ask, models):
    backend = await serve(replicas=2)
    await asyncio.gather(*(backend.generate(ask(session=f"s{index}")) for index in range(4)))
    await backend.update_weights(WeightUpdate(version=2, folder=models[1]))
    replies = [await backend.generate(ask(session=f"s{index}")) for index in range(4)]
    assert {reply.policy_version for reply in replies} == {2}


def without_first(tensors):
    return dict(list(tensors.items())[1:])


def with_another(tensors):
    return tensors | {"model.extra": torch.zeros(2)}


def with_longer_norm(tensors):
    return tensors | {"model.norm.weight": torch.zeros(32)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without_first, r"model\.embed_tokens\.weight is missing"),
        (with_another, r"model\.extra is unknown"),
        (with_longer_norm, r"shape \[32\] instead of \[64\]"),
    ],
)
async def test_weights_that_do_not_fit_change_nothing(change, complaint, serve, ask, models):
    backend = await serve()
    before = await backend.generate(ask())
    with pytest.raises(InferenceError, match=complaint):
        await backend.update_weights(WeightUpdate(version=1, tensors=tensors_of(models[1], change)))
    assert (await backend.generate(ask())).logprobs == before.logprobs


async def test_an_update_without_weights_is_refused(serve):
    backend = await serve()
    with pytest.raises(InferenceError, match="neither tensors nor a folder"):
        await backend.update_weights(WeightUpdate(version=1))


async def test_a_wrong_version_is_noticed_by_the_canary(serve, models):
    backend = await serve()
    with pytest.raises(InferenceError, match=r"version 1 that it was sent:\nthe canary's .* nats off"):
        await backend.update_weights(WeightUpdate(version=1, folder=models[0], canary=canary_of(models[1])))


async def test_weights_that_fail_the_check_serve_nobody_and_right_ones_end_that(serve, stand, ask, models):
    server = await stand(delay=0.01)
    backend = await serve(**server.settings)
    running = asyncio.create_task(backend.generate(ask(max_tokens=60)))
    await server.has_sampled(2)
    with pytest.raises(InferenceError, match="nats off"):
        await backend.update_weights(WeightUpdate(version=1, folder=models[0], canary=canary_of(models[1])))
    for refused in (running, backend.generate(ask())):
        with pytest.raises(InferenceError, match="does not serve the weights of version 1"):
            await refused
    await backend.update_weights(WeightUpdate(version=2, folder=models[1], canary=canary_of(models[1])))
    assert (await backend.generate(ask())).policy_version == 2


async def test_a_canary_of_a_coarser_type_is_compared_as_one(serve, models):
    backend = await serve()
    exact = canary_of(models[0])
    coarse = replace(exact, dtype="bfloat16", logprobs=tuple(each + 0.1 for each in exact.logprobs))
    await backend.update_weights(WeightUpdate(version=1, folder=models[0], canary=coarse))
    with pytest.raises(InferenceError, match=r"0\.1 nats off on average where 0\.001 is allowed"):
        await backend.update_weights(WeightUpdate(version=2, folder=models[0], canary=replace(coarse, dtype="float32")))


def test_a_server_that_serves_another_version_is_noticed(models):
    report = {"version": 3, "problems": [], "unverified": [], "canary": []}
    weights = Weights(path=models[0], version=3)
    require_served(report, weights, dtype="float32", tolerance=None)
    with pytest.raises(InferenceError, match="version 4 that it was sent:\nit serves version 3"):
        require_served(report, replace(weights, version=4), dtype="float32", tolerance=None)


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        ({"keeps_old_weights": True}, "answers a probe exactly as before"),
        ({"lies": True}, r"lm_head\.weight: the engine computes with other values"),
        ({"broken_loader": True}, "could be loaded in part only: attempted to load"),
    ],
)
async def test_an_engine_that_does_not_serve_what_it_was_sent_ends_the_run(engine, complaint, serve, models):
    backend = await serve(engine=engine)
    with pytest.raises(InferenceError, match=complaint):
        for version in (1, 2):
            await backend.update_weights(WeightUpdate(version=version, folder=models[version % 2]))


async def test_weights_loaded_in_part_serve_no_request(serve, ask, models):
    backend = await serve(engine={"broken_loader": True})
    with pytest.raises(InferenceError):
        await backend.update_weights(WeightUpdate(version=1, folder=models[1]))
    with pytest.raises(InferenceError, match="in part only"):
        await backend.generate(ask())


async def test_files_of_former_weights_are_removed(serve, models, tmp_path):
    backend = await serve()
    for version in (1, 2, 3):
        await backend.update_weights(WeightUpdate(version=version, tensors=tensors_of(models[version % 2])))
    files = [path.name for path in (tmp_path / "transfer").rglob("*") if path.is_file()]
    assert files == ["3.safetensors"]


async def test_weights_that_cannot_be_written_fail_the_update_and_leave_no_file(serve, models, tmp_path):
    def broken():
        raise OSError("no such shard")

    backend = await serve()
    with pytest.raises((InferenceError, OSError), match="no such shard"):
        await backend.update_weights(WeightUpdate(version=1, tensors=broken))
    assert [path for path in (tmp_path / "transfer").rglob("*") if path.is_file()] == []
