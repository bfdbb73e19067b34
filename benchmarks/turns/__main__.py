"""Conversations of many turns with the `transformers` inference backend: what it computes, with its cache and without.

The conversations are those of the environment `trail`: its own instructions and answers, and replies as long as its
expert's. All are played at once, as the episodes of a step are, each with a task of its own. With the cache each is
one session; without, each request is a session of its own, released after the reply. Rounds alternate; the reported
ratio of wall time is the median.

    python benchmarks/turns --rounds 5 --threads 1
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from conversations import Conversation, spoken, tokenised

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel

HIT_BAR, TIME_BAR = 0.95, 0.5


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one turn of one conversation took."""

    prompt: int
    """Tokens of the request."""
    new: int
    """Those of them that the request before did not have, its reply left out: what cannot have been computed."""
    computed: int
    """Those that were computed for the request, its own reply left out."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """One round."""

    seconds: float
    """Wall time of a trajectory."""
    processor: float
    """Processor time of one."""
    turns: Sequence[Sequence[Turn]]
    """Conversation → its turns."""


async def play(backend: TransformersInference, conversations: Sequence[Conversation], *, reuse: bool) -> Played:
    """Play all conversations at once."""

    async def one(number: int, conversation: Conversation) -> list[Turn]:
        history, known, taken = list(conversation.prompt), 0, []
        for turn, (length, after) in enumerate(conversation.turns):
            session = f"{number}" if reuse else f"{number}/{turn}"
            reply = await backend.generate(
                GenerateRequest(
                    token_ids=tuple(history),
                    sampling=Sampling(max_tokens=length),
                    seed=1000 * number + turn,
                    session=session,
                )
            )
            computed = len(history) - reply.cached_tokens
            taken.append(Turn(prompt=len(history), new=len(history) - known, computed=computed))
            if not reuse:
                await backend.release(session)
            known = len(history) + len(reply.token_ids)
            history += [*reply.token_ids, *after]
        if reuse:
            await backend.release(f"{number}")
        return taken

    wall, cpu = time.perf_counter(), time.process_time()
    turns = await asyncio.gather(*(one(number, each) for number, each in enumerate(conversations)))
    count = len(conversations)
    return Played(
        seconds=(time.perf_counter() - wall) / count, processor=(time.process_time() - cpu) / count, turns=turns
    )


async def compare(arguments: argparse.Namespace) -> dict[str, list[Played]]:
    """Alternate between the two."""
    torch.set_num_threads(arguments.threads)
    episodes = await spoken(arguments.conversations, arguments.turns)
    with tempfile.TemporaryDirectory() as folder:
        settings = TinySettings(layers=arguments.layers, width=arguments.width, context=4096)
        TinyModel(settings).prepare(Path(folder), texts=[each.text for each in episodes], seed=0)
        backend = TransformersInference(TransformersSettings(threads=arguments.threads))
        await backend.start(Path(folder))
        conversations = [tokenised(each, backend.tokenizer) for each in episodes]
        played: dict[str, list[Played]] = {"with": [], "without": []}
        for turn in range(arguments.rounds + 1):
            for name in list(played)[:: 1 if turn % 2 else -1]:
                found = await play(backend, conversations, reuse=name == "with")
                if turn:  # the first round warms up
                    played[name].append(found)
        await backend.close()
    return played


def by_turn(played: Played) -> list[dict[str, float]]:
    """Return the means over conversations of each turn."""
    rows = []
    for turns in zip(*played.turns, strict=True):
        prompt, new, computed = (
            statistics.fmean(getattr(turn, name) for turn in turns) for name in ("prompt", "new", "computed")
        )
        rows.append({"prompt": prompt, "new": new, "computed": computed, "hit": 1 - computed / prompt})
    return rows


def summary(played: dict[str, list[Played]]) -> dict[str, float]:
    """Return the ratios, and the share of prompt tokens found in the cache in the last turn and in all."""
    pairs = list(zip(played["with"], played["without"], strict=True))
    rows = by_turn(played["with"][0])
    wall = [ours.seconds / theirs.seconds for ours, theirs in pairs]
    return {
        "wall": statistics.median(wall),
        "wall_lowest": min(wall),
        "wall_highest": max(wall),
        "processor": statistics.median(ours.processor / theirs.processor for ours, theirs in pairs),
        "hit_last": rows[-1]["hit"],
        "hit_all": 1 - sum(row["computed"] for row in rows) / sum(row["prompt"] for row in rows),
        "most_beyond_new": max(row["computed"] - row["new"] for row in rows),
    }


def table(played: dict[str, list[Played]]) -> str:
    """Return a Markdown table by turn."""
    lines = ["| turn | prompt | new | computed | from the cache | computed without it |", "|---|---|---|---|---|---|"]
    rows = zip(by_turn(played["with"][0]), by_turn(played["without"][0]), strict=True)
    lines += [
        f"| {turn} | {ours['prompt']:.0f} | {ours['new']:.1f} | {ours['computed']:.1f} | {ours['hit']:.1%} | "
        f"{theirs['computed']:.0f} |"
        for turn, (ours, theirs) in enumerate(rows, 1)
    ]
    return "\n".join(lines)


def verdicts(figures: dict[str, float], turns: int) -> dict[str, bool]:
    """Return which bars hold."""
    return {
        f"at least {HIT_BAR:.0%} of the prompt of turn {turns} from the cache": figures["hit_last"] >= HIT_BAR,
        # The reply's last token was sampled, and never computed.
        "computed in a turn: what is new, and one token": figures["most_beyond_new"] <= 1,
        f"wall time of a trajectory at most {TIME_BAR} of that without the cache": figures["wall"] <= TIME_BAR,
    }


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=16)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    played = asyncio.run(compare(arguments))
    figures = summary(played)
    held = verdicts(figures, arguments.turns)
    print(table(played))
    print(
        f"\nwall time of a trajectory, with the cache over without: {figures['wall']:.2f} "
        f"({figures['wall_lowest']:.2f} to {figures['wall_highest']:.2f}); processor time: {figures['processor']:.2f}; "
        f"from the cache over all turns: {figures['hit_all']:.1%}"
    )
    print("\n".join(f"{'holds' if holds else 'FAILS'}: {bar}" for bar, holds in held.items()))
    print(f"torch {torch.__version__}; {arguments.threads} thread(s); load {os.getloadavg()[0]:.1f}")
    if arguments.json:
        options = {name: str(value) for name, value in vars(arguments).items()}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        turns = {name: by_turn(rounds[0]) for name, rounds in played.items()}
        written = {"options": options, "machine": platform.platform(), "turns": turns, "figures": figures, "bars": held}
        arguments.json.write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
