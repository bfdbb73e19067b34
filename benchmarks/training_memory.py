"""Peak memory and time of a training step, with activations kept and with activations computed again.

Each step is taken in a process of its own, by the `torch` training backend on one batch of trajectories; memory is
what the step adds to the peak of the process beyond what it had before. Rounds alternate.

    python benchmarks/training_memory.py --rounds 3
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROLLOUTS = 8
LENGTH = 512
VOCABULARY = 512
VARIANTS = {
    "kept": {},
    "computed again": {"gradient_checkpointing": True},
    "kept, bf16": {"mixed_precision": "bf16"},
}


def write_model(folder: Path) -> None:
    """Write a random model of 6 million weights."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def take_step(folder: Path, settings: dict[str, object]) -> dict[str, float]:
    """Take a supervised step in this process, the first of its optimizer, and return what it took."""
    import torch

    from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory
    from tumbler_backends.training.torch.settings import TorchTrainingSettings
    from tumbler_backends.training.torch.trainer import Trainer

    component = Component(id="benchmark", version="0", settings_hash="")
    tokens = torch.randint(VOCABULARY, (ROLLOUTS, LENGTH), generator=torch.Generator().manual_seed(0)).tolist()
    batch = [
        Trajectory(
            header=Header(id=str(index), task="task", env=component, agent=component),
            segments=(Segment(id=0, token_ids=tuple(row)),),
            chunks=(Chunk(segment=0, start=LENGTH // 2, end=LENGTH, trainable=True),),
        )
        for index, row in enumerate(tokens)
    ]
    settings = {"micro_batch_tokens": ROLLOUTS * LENGTH, "snapshots": 0, **settings}
    trainer = Trainer(folder, TorchTrainingSettings.model_validate(settings), seed=0)
    trainer.begin("sft", optimizer_steps=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    trainer.fit_sft(batch)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"MiB": (after - before) / 1024, "CPU seconds": time.process_time() - started}


def main() -> None:
    """Alternate the variants and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", nargs=2, metavar=("FOLDER", "SETTINGS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        sys.stdout.write(json.dumps(take_step(Path(options.step[0]), json.loads(options.step[1]))))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        for _ in range(options.rounds):
            for name, settings in VARIANTS.items():
                command = [sys.executable, __file__, "--step", folder, json.dumps(settings)]
                finished = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name].append(json.loads(finished.stdout.splitlines()[-1]))
    sys.stdout.write(f"{'activations':16} {'MiB':>8} {'ratio':>6} {'CPU s':>8} {'ratio':>6}\n")
    first = {key: statistics.median(each[key] for each in found["kept"]) for key in ("MiB", "CPU seconds")}
    for name, rounds in found.items():
        memory, seconds = (statistics.median(each[key] for each in rounds) for key in first)
        ratios = memory / first["MiB"], seconds / first["CPU seconds"]
        sys.stdout.write(f"{name:16} {memory:8.0f} {ratios[0]:6.2f} {seconds:8.2f} {ratios[1]:6.2f}\n")


if __name__ == "__main__":
    main()
