"""Arm B: the conversation is played by script, and a small real model answers from what the strategy kept of it."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from experiments.context.arms import ARMS
from experiments.context.episodes import play
from experiments.context.families import build
from experiments.context.grammar import Fact, facts_in, request_in
from experiments.context.reading import own_text

from tumbler.contracts.values import Message
from tumbler.seeding import derive_seed

if TYPE_CHECKING:
    from experiments.context.reader import Reader

__all__ = ["MODEL_ARMS", "MODEL_FAMILIES", "Answer", "ask_all", "load_answers"]

MODEL_ARMS: Final = (
    "ceiling",
    "oracle keep",
    "random drop",
    "window",
    "mask-observations",
    "summary",
    "window, notes",
    "window, retrieval",
)
MODEL_FAMILIES: Final = ("shown-once fact", "last write wins", "rule in a tool result", "helper's result")
_MADE_UP: Final = 4
_WORDS: Final = ("zeta", "sigma", "kappa", "omega", "delta", "theta", "lambda")
_TAG: Final = re.compile(r"</?tool_(?:call|response)>\n?")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model made of one kept conversation."""

    arm: str
    family: str
    seed: int
    scripted: bool
    """Whether the scripted policy solved the task with the same strategy."""
    kept: bool
    """Whether the prompt holds the sentence that answers the question."""
    chosen: bool = False
    """Whether the right answer is likelier than four that nothing told: what it takes is to have seen it."""
    bound: bool = False
    """Whether it is also likelier than what was told of other things, or earlier: what it takes is to tell which."""
    exact: bool = False
    """Whether the model says it by itself."""
    margin: float = 0.0
    """Log-probability of the right answer less that of the likeliest one that nothing told."""
    tokens: int = 0


def ask_all(arms: Sequence[str], seeds: Iterable[int], out: Path, *, threads: int) -> None:
    """Ask what has not been asked yet, and add the answers to `answers.jsonl`, seed by seed."""
    from experiments.context.reader import Reader

    out.mkdir(parents=True, exist_ok=True)
    path = out / "answers.jsonl"
    done = {(each.arm, each.family, each.seed) for each in load_answers(path)}
    reader = Reader(out / "model", threads=threads)
    began = time.monotonic()
    for seed in seeds:
        for family in MODEL_FAMILIES:
            for arm in arms:
                if (arm, family, seed) in done:
                    continue
                answer = _ask(reader, arm, family, seed)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(answer)) + "\n")
                minutes = (time.monotonic() - began) / 60
                print(f"[{minutes:5.1f} min] {family} {seed} {arm}: {answer.chosen}", file=sys.stderr, flush=True)


def load_answers(path: Path) -> list[Answer]:
    """Return the answers that are there."""
    if not path.exists():
        return []
    return [Answer(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _ask(reader: "Reader", name: str, family: str, seed: int) -> Answer:
    arm = next(each for each in ARMS if each.name == name)
    prompts: list[Sequence[Message]] = []
    measured = asyncio.run(play(arm, family, seed, on_prompt=prompts.append))
    script = build(family, seed)
    last = [step.request for step in script.steps if step.scored][-1]
    wanted = next(fact for sentence in script.needed for fact in facts_in(sentence))
    asking = [each for each in prompts if _asks(each, last)]
    text = _kept_text(asking[-1]) if asking else ""
    answer = Answer(arm=name, family=family, seed=seed, scripted=measured.success, kept=str(wanted) in text)
    if not asking:
        return answer
    made_up, told = _wrong(wanted, family, seed)
    question = f"{text}\n\nWhat is the {wanted.attribute} of {wanted.subject}?"
    beginning = f"The {wanted.attribute} of {wanted.subject} is"
    reading = reader.read(question, beginning=beginning, candidates=[wanted.value, *made_up, *told])
    margin = reading.logprobs[0] - max(reading.logprobs[1 : 1 + len(made_up)])
    return replace(
        answer,
        chosen=margin > 0,
        bound=reading.logprobs[0] > max(reading.logprobs[1:]),
        exact=wanted.value in reading.said,
        margin=margin,
        tokens=reading.tokens,
    )


def _asks(messages: Sequence[Message], request: str) -> bool:
    """Return whether the newest message asks for this."""
    return request_in(own_text(messages[-1])) == request


def _kept_text(messages: Sequence[Message]) -> str:
    """Return what the prompt holds besides system message and task, without the tags of the dialect."""
    return "\n".join(_TAG.sub("", message.content).strip() for message in messages[2:])


def _wrong(wanted: Fact, family: str, seed: int) -> tuple[list[str], list[str]]:
    """Return wrong answers that nothing told, and those that the task told of something else or earlier."""
    rng = Random(derive_seed(seed, "wrong answers", family))
    if not wanted.value.isdecimal():
        return rng.sample([word for word in _WORDS if word != wanted.value], _MADE_UP), []
    told = {fact.value for fact in _told(family, seed) if fact.value.isdecimal() and fact.value != wanted.value}
    free = [str(number) for number in range(1000, 10_000) if str(number) not in {wanted.value, *told}]
    made_up = rng.sample(free, _MADE_UP)
    return made_up, sorted(told)


def _told(family: str, seed: int) -> Iterator[Fact]:
    for step in build(family, seed).steps:
        yield from facts_in("\n".join((step.text, *step.brings)))
