"""The suite of inference passes a sound implementation, and catches each fault with the right test."""

import random
from dataclasses import replace

import pytest

from tumbler.testing import (
    InferenceSuite,
    ScriptedInference,
)


class Scripted(ScriptedInference):
    def __init__(self):
        super().__init__(lambda prompt: "word and another one")


async def positive_logprobs(self, request):
    reply = await ScriptedInference.generate(self, request)
    return replace(reply, logprobs=tuple(-value for value in reply.logprobs))


async def unseeded(self, request):
    reply = await ScriptedInference.generate(self, request)
    return replace(reply, token_ids=tuple(random.choices(range(40, 90), k=len(reply.token_ids))))


async def too_long(self, request):
    reply = await ScriptedInference.generate(self, request)
    return replace(reply, token_ids=reply.token_ids * 2, logprobs=reply.logprobs * 2)


async def forgets_the_version(self, update):
    return None


async def releases_once(self, session):
    self.released.remove(session) if session in self.released else self.released.append(session)
    if session == "never-seen":
        raise KeyError(session)


async def never_answers(self, request):
    self.hung = self.__dict__.get("hung", 0) + (request.sampling.max_tokens == 100)
    if self.hung:
        raise KeyError("engine is gone")
    return await ScriptedInference.generate(self, request)


INFERENCES = {
    "positive": ({"generate": positive_logprobs}, "test_a_reply_is_well_formed"),
    "too long": ({"generate": too_long}, "test_a_reply_is_well_formed"),
    "unseeded": ({"generate": unseeded}, "test_equal_seeds_give_equal_replies"),
    "greedy": ({"generate": unseeded}, "test_greedy_replies_do_not_depend_on_the_seed"),
    "stale": ({"update_weights": forgets_the_version}, "test_new_weights_are_served_under_their_version"),
    "release": ({"release": releases_once}, "test_sessions_can_be_released"),
    "counters": ({"metrics": lambda self: {"load": -float(len(self.requests))}}, "test_its_counters_are_numbers"),
    "in flight": ({"generate": never_answers}, "test_closing_answers_what_is_in_flight"),
}


def test_the_inference_suite_passes_a_sound_backend(caught):
    assert caught(InferenceSuite, make_backend=Scripted) == set()


@pytest.mark.parametrize("fault", INFERENCES)
def test_the_inference_suite_catches(caught, broken, fault):
    methods, expected = INFERENCES[fault]
    assert expected in caught(InferenceSuite, make_backend=broken(Scripted, methods))
