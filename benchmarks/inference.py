"""Tokens a second of the `transformers` inference backend against `model.generate`, as a ratio in one run.

Both serve the same conversations with the same small model: prompts of 300 tokens, several turns of sampled
tokens and tokens of the environment. `generate` takes all conversations as one batch, turn by turn, and
starts from the whole history each time, as trainers that call it do. The backend keeps its cache, and gets
each conversation as an episode of its own. Runs alternate; the reported ratio is the median.

    python benchmarks/inference.py --threads 1
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel

PROMPT, TURNS, SAMPLED, OBSERVED = 300, 4, 16, 32
FIRST_TOKEN = 6  # below it are the control tokens


def draw(random: Random, count: int) -> list[int]:
    """Return token ids that are no control tokens."""
    return [random.randrange(FIRST_TOKEN, 300) for _ in range(count)]


async def with_backend(backend: TransformersInference, episodes: int, group: int, repeat: int) -> int:
    """Play all episodes concurrently and return how many tokens were sampled."""

    async def play(episode: int) -> int:
        history, tokens, random = draw(Random(f"{repeat}-{episode // group}"), PROMPT), 0, Random(episode)
        session = f"{repeat}-{episode}"
        for turn in range(TURNS):
            sampling = Sampling(max_tokens=SAMPLED)
            request = GenerateRequest(
                token_ids=tuple(history), sampling=sampling, seed=episode * TURNS + turn, session=session
            )
            reply = await backend.generate(request)
            tokens += len(reply.token_ids)
            history += [*reply.token_ids, *draw(random, OBSERVED)]
        await backend.release(session)
        return tokens

    return sum(await asyncio.gather(*(play(episode) for episode in range(episodes))))


@torch.inference_mode()
def with_generate(model: PreTrainedModel, episodes: int, group: int, repeat: int) -> int:
    """Play all episodes as one batch and return how many tokens were sampled."""
    histories = [draw(Random(f"{repeat}-{episode // group}"), PROMPT) for episode in range(episodes)]
    tokens, random = 0, Random(0)
    end, pad = model.config.eos_token_id, model.config.pad_token_id
    for _ in range(TURNS):
        longest = max(map(len, histories))
        padded = [[pad] * (longest - len(history)) + history for history in histories]
        masks = [[0] * (longest - len(history)) + [1] * len(history) for history in histories]
        output = model.generate(  # type: ignore[operator]  # pyright takes the mixin for a tensor
            input_ids=torch.tensor(padded),
            attention_mask=torch.tensor(masks),
            max_new_tokens=SAMPLED,
            do_sample=True,
            top_k=0,
        )
        for history, row in zip(histories, output[:, longest:].tolist(), strict=True):
            reply = row[: row.index(end) + 1] if end in row else row
            tokens += len(reply)
            history += [*reply, *draw(random, OBSERVED)]
    return tokens


async def rate(play: Callable[[], Awaitable[int]]) -> tuple[float, float]:
    """Return sampled tokens per second of wall time and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = await play()
    return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - cpu)


async def compare(arguments: argparse.Namespace) -> None:
    """Alternate between the two and print their rates and ratio."""
    torch.set_num_threads(arguments.threads)
    episodes, group = arguments.episodes, arguments.group
    with tempfile.TemporaryDirectory() as folder:
        TinyModel(TinySettings()).prepare(Path(folder), texts=(), seed=0)
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        backend = TransformersInference(TransformersSettings(threads=arguments.threads))
        await backend.start(Path(folder))

        async def generate(repeat: int) -> int:
            return with_generate(model, episodes, group, repeat)

        rates: dict[str, list[tuple[float, float]]] = {"backend": [], "generate": []}
        for repeat in range(arguments.repeats + 1):
            ours = await rate(lambda repeat=repeat: with_backend(backend, episodes, group, repeat))
            theirs = await rate(lambda repeat=repeat: generate(repeat))
            if repeat:  # the first round warms up
                rates["backend"].append(ours)
                rates["generate"].append(theirs)
        await backend.close()
    print(f"{episodes} episodes in groups of {group}, {arguments.threads} thread(s), torch {torch.__version__}")
    for name, values in rates.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:9} {wall:8.0f} sampled tokens a second of wall time, {cpu:8.0f} of processor time")
    pairs = list(zip(rates["backend"], rates["generate"], strict=True))
    for index, clock in enumerate(("wall", "processor")):
        ratio = statistics.median(ours[index] / theirs[index] for ours, theirs in pairs)
        print(f"ratio by {clock} time: {ratio:.2f}")


def main() -> None:
    """Read the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--group", type=int, default=8, help="episodes that share a prompt")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
