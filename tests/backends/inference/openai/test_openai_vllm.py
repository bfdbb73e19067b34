"""The completions of vLLM's own server: `make vllm` makes its environment and runs these."""

import os
import signal
import socket
import subprocess
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from transformers import AutoModelForCausalLM

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler_backends.gateway.upstream.settings import UpstreamSettings
from tumbler_backends.inference.openai.policy import ServedPolicy
from tumbler_backends.inference.vllm.origins import find_python
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    settings = TinySettings(layers=1, width=64, heads=2, context=512, vocabulary=512)
    return TinyModel(settings).prepare(folder, texts=["Say a word."], seed=0)


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    """Where vLLM serves the model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"model": model, "served-model-name": "small", "host": "127.0.0.1", "port": port, "dtype": "float32"}
    options |= {"max-model-len": 256, "max-num-seqs": 8, "generation-config": "vllm"}
    command = [str(find_python(None)), "-m", "vllm.entrypoints.openai.api_server"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    said = tmp_path_factory.mktemp("server") / "said.log"
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1"}
    with said.open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + 600
        while not healthy(port):
            assert server.poll() is None and time.monotonic() < until, said.read_text(errors="replace")[-4000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(60)


def healthy(port):
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


async def test_its_tokens_and_their_log_probabilities_are_those_of_torch(url, model):
    backend = ServedPolicy(UpstreamSettings(base_url=url, model="small"))
    reference = AutoModelForCausalLM.from_pretrained(model).eval()
    try:
        await backend.start(model)
        prompt = tuple(range(10, 60))
        for seed in range(4):
            sampling = Sampling(max_tokens=24)
            reply = await backend.generate(GenerateRequest(token_ids=prompt, sampling=sampling, seed=seed))
            with torch.inference_mode():
                rows = reference(torch.tensor([[*prompt, *reply.token_ids]])).logits[0].log_softmax(-1)
            expected = rows[len(prompt) - 1 : -1].gather(1, torch.tensor(reply.token_ids)[:, None]).squeeze(1)
            assert reply.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
            ended = reply.token_ids[-1] in {backend.tokenizer.end_of_turn, *backend.tokenizer.end_of_text}
            assert ended is (reply.finish_reason == "stop")
        assert reply.cached_tokens >= 0
    finally:
        await backend.close()
