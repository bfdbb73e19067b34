"""Tokens a second of the `transformers` inference backend against `model.generate` and vLLM, as ratios in one run.

All serve the same conversations with the same small model: prompts of 300 tokens, several turns of sampled
tokens and tokens of the environment. `generate` takes all conversations as one batch, turn by turn, and
starts from the whole history each time, as trainers that call it do. The backend keeps its cache, and gets
each conversation as an episode of its own. Runs alternate; the reported ratios are medians.

    python benchmarks/inference.py --threads 1
    python benchmarks/inference.py --threads 1 --vllm

With `--vllm` the backend `vllm` gets the same episodes as `transformers`, with prefix caching, from a server of its
own: the Python of `TUMBLER_VLLM_PYTHON`, or what `tools/vllm-environment.sh` has made. That one's processor time is
spent in another process, and not counted.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tumbler.contracts.inference import GenerateRequest, InferenceBackend, Sampling
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.inference.vllm.backend import VllmInference
from tumbler_backends.inference.vllm.settings import VllmSettings
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel

PROMPT, TURNS, SAMPLED, OBSERVED = 300, 4, 16, 32
FIRST_TOKEN = 6  # below it are the control tokens


def draw(random: Random, count: int) -> list[int]:
    """Return token ids that are no control tokens."""
    return [random.randrange(FIRST_TOKEN, 300) for _ in range(count)]


async def with_backend(backend: InferenceBackend, episodes: int, group: int, repeat: int) -> int:
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


@asynccontextmanager
async def started(backend: TransformersInference | VllmInference, model: Path) -> AsyncIterator[InferenceBackend]:
    """Start the backend, and close it at the end."""
    try:
        await backend.start(model)
        yield backend
    finally:
        await backend.close()


async def compare(arguments: argparse.Namespace) -> None:
    """Alternate between the sides and print their rates and ratios."""
    torch.set_num_threads(arguments.threads)
    episodes, group = arguments.episodes, arguments.group
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        TinyModel(TinySettings()).prepare(folder, texts=(), seed=0)
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        backends: dict[str, InferenceBackend] = {}
        served = TransformersInference(TransformersSettings(threads=arguments.threads))
        backends["transformers"] = await stack.enter_async_context(started(served, folder))
        if arguments.vllm:
            cores = ",".join(map(str, range(arguments.threads)))
            settings = VllmSettings(environment={"VLLM_CPU_OMP_THREADS_BIND": cores}, engine={"max_num_seqs": episodes})
            backends["vllm"] = await stack.enter_async_context(started(VllmInference(settings), folder))

        async def play(side: str, repeat: int) -> int:
            if side == "generate":
                return with_generate(model, episodes, group, repeat)
            return await with_backend(backends[side], episodes, group, repeat)

        sides = [*backends, "generate"]
        rates: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for repeat in range(arguments.repeats + 1):
            for side in sides:
                found = await rate(lambda side=side, repeat=repeat: play(side, repeat))
                if repeat:  # the first round warms up
                    rates[side].append(found)
    print(f"{episodes} episodes in groups of {group}, {arguments.threads} thread(s), torch {torch.__version__}")
    for side, values in rates.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        processor = "" if side == "vllm" else f", {cpu:8.0f} of processor time"
        print(f"{side:12} {wall:8.0f} sampled tokens a second of wall time{processor}")
    for side in sides[1:]:
        pairs = list(zip(rates["transformers"], rates[side], strict=True))
        for index, clock in enumerate(("wall",) if side == "vllm" else ("wall", "processor")):
            ratio = statistics.median(ours[index] / theirs[index] for ours, theirs in pairs)
            print(f"transformers against {side} by {clock} time: {ratio:.2f}")


def main() -> None:
    """Read the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--group", type=int, default=8, help="episodes that share a prompt")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vllm", action="store_true", help="compare with vLLM as well")
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
