"""A synthetic run folder: an sft stage, RL, and evaluations around them, with hostile text in it."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tumbler.contracts.values import JSONObject, ToolCall
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory, trajectory_to_json
from tumbler_backends.observers.jsonl.journal import append_result, append_step

STAGES = (
    StageInfo(index=1, kind="sft", label="1-sft", steps=120),
    StageInfo(index=2, kind="eval", label="2-eval", steps=200),
    StageInfo(index=3, kind="rl", label="3-rl", steps=40),
    StageInfo(index=4, kind="eval", label="4-eval", steps=200),
)
HOSTILE = "<script>alert(1)</script> ]]> </script><img src=x onerror=alert(2)> \ud800 \u202e\x1b[31m"


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    share, z = successes / episodes, 1.96
    middle = (share + z * z / (2 * episodes)) / (1 + z * z / episodes)
    half = z / (1 + z * z / episodes) * math.sqrt(share * (1 - share) / episodes + z * z / (4 * episodes**2))
    return middle - half, middle + half


def eval_result(stage: StageInfo, after: str, successes: int) -> JSONObject:
    low, high = wilson(successes, 200)
    figures = {
        "episodes": 200,
        "successes": successes,
        "success_rate": successes / 200,
        "wilson_low": low,
        "wilson_high": high,
        "mean_turns": 9.3 - successes / 40,
        "infra_failed": 0 if successes > 100 else 2,
    }
    return {"index": stage.index, "kind": "eval", "label": stage.label, "after": after, "envs": {"trail": figures}}


def rl_metrics(step: int, rng: Random) -> StepMetrics:
    learned = 1 / (1 + math.exp(-(step - 14) / 5))
    success = min(max(0.4 + 0.53 * learned + rng.gauss(0, 0.035), 0), 1)
    values = {
        "rollout/success": success,
        "rollout/reward": 2 * success - 1,
        "rollout/turns": 8.6 - 3.4 * learned + rng.gauss(0, 0.2),
        "rollout/tokens": 212 - 90 * learned + rng.gauss(0, 6),
        "rollout/infra_failed": float(rng.random() < 0.15) * rng.randint(1, 3),
        "rollout/rerolled": float(rng.random() < 0.15),
        "rollout/dropped": 0.0,
        "rollout/success_anchor_q2": success,
        "rollout/success_anchor_q4": 1.0,
        "rollout/refused_groups": 2.0,
        "rollout/replaced_groups": 1.0,
        "train/loss": -0.4 * success + rng.gauss(0, 0.04),
        "train/gradient_norm": 0.011 + 0.006 * rng.random(),
        "train/learning_rate": 2e-5 * (1 - step / 40),
        "train/entropy": 0.62 * math.exp(-step / 22) + 0.08,
        "train/tokens": 5200 - 60 * step + rng.gauss(0, 200),
        "ipa/mask_share": 0.02 + 0.01 * rng.random(),
        "ipa/ratio_mean": 1 + rng.gauss(0, 0.004),
        "ipa/ratio_clipped_share": 0.4 + rng.gauss(0, 0.03),
        "time/rollout_s": 9.1 - 3 * learned + rng.gauss(0, 0.4),
        "time/train_s": 6.2 + rng.gauss(0, 0.3),
        "time/sync_s": 0.4,
        "time/model_s": 3.1 - 1.2 * learned + rng.gauss(0, 0.1),
        "time/tools_s": 0.8 + rng.gauss(0, 0.05),
        "time/sandbox_s": 0.4 + rng.gauss(0, 0.03),
        "time/verify_s": 0.2 + rng.gauss(0, 0.02),
        "curriculum/anchor_depth": 3 + step / 8,
    }
    width = 0.015 + 0.02 * learned
    return StepMetrics(
        step=step,
        values=values,
        samples={
            "ipa/chunk_ratio": [math.exp(rng.gauss(0, width)) for _ in range(300)],
            "ipa/chunk_mismatch": [math.exp(rng.gauss(0, 0.004)) for _ in range(300)],
        },
    )


def trajectory(number: int, stage: StageInfo, success: bool | None, rng: Random, turns: int) -> Trajectory:
    version = number // 16 if stage.kind == "rl" else 40
    expert = stage.kind == "sft"
    chunks, position = [], 30
    for turn in range(turns):
        bad = not success and turn == 2
        length = rng.randint(14, 30)
        call = ToolCall(name="move", arguments={"direction": rng.choice(["north", "east", "south", "west"])})
        if bad and number % 2:
            call = ToolCall(name="run", arguments={"command": HOSTILE})
        chunks.append(
            Chunk(
                segment=0,
                start=position,
                end=position + length,
                text=f"The door is to the {call.arguments.get('direction', 'left')}, and the key fits it; I go there.\n"
                f'<call>{{"tool": "{call.name}"}}</call>',
                sampled=not expert,
                replayed=stage.kind == "rl" and number % 5 == 0 and turn == 0,
                trainable=not expert and not (number % 5 == 0 and turn == 0),
                behaviour_logprobs=() if expert else tuple(-abs(rng.gauss(0.2, 0.2)) for _ in range(length)),
                policy_version=None if expert else version,
                tool_calls=(call,),
                observation=HOSTILE if bad else f"You walk {turn + 1} steps. There is a lantern here.",
                errored=bad,
                relevant=turn != 1,
            )
        )
        position += length + 20
    seconds = {"sandbox": 0.31, "model": 1.9 * turns / 5, "tools": 0.4, "verify": 0.12}
    return Trajectory(
        header=Header(
            id=f"{stage.label}-{number:04d}",
            task=f"trail-{rng.randint(1000, 9999)}",
            env=Component(id="trail", version="0.1.0", settings_hash="a1"),
            agent=Component(id="react", version="0.1.0", settings_hash="b2"),
            seed=number,
            group=f"g{number // 8}",
            source="expert" if expert else "policy",
            isolation="bubblewrap",
        ),
        segments=(Segment(id=0, token_ids=(1,) * position),),
        chunks=tuple(chunks),
        reward=None if success is None else (1.0 if success else -1.0),
        success=success,
        status="infra_failed" if success is None else "completed",
        status_reason="SandboxDied: the sandbox is gone" if success is None else "",
        seconds=seconds,
        details={"passed": success, "instruction": "Follow the trail to the <cairn> and light the lantern."},
    )


def write_trajectories(folder: Path, stage: StageInfo, rng: Random) -> None:
    path = folder / "stages" / stage.label / "trajectories.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="ascii") as file:
        for number in range(40):
            skill = 0.9 if stage.label == "4-eval" or (stage.kind == "rl" and number > 20) else 0.4
            success = None if stage.kind == "rl" and number in (7, 31) else stage.kind == "sft" or rng.random() < skill
            record = trajectory(number, stage, success, rng, rng.randint(4, 9))
            file.write(json.dumps(trajectory_to_json(record)) + "\n")


def make_run(folder: Path) -> RunInfo:
    rng = Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    resolved: JSONObject = {
        "name": "quickstart",
        "seed": 0,
        "versions": {"ipa": ["tumbler", "0.1.0"], "trail": ["tumbler", "0.1.0"], "maze": ["tumbler-maze", "2.4"]},
        "env": {"id": "trail"},
        "agent": {"id": "react"},
        "algorithm": {"id": "ipa", "settings": {"gamma": 0.95}},
        "backends": {"sandbox": {"id": "bubblewrap"}, "training": {"id": "torch"}},
        "stages": ["sft", "eval", "rl", "eval"],
        "note": HOSTILE,
    }
    (folder / "run.json").write_text(json.dumps(resolved), encoding="ascii")
    run = RunInfo(id="p1", name="quickstart", folder=folder, resolved=resolved, stages=STAGES)
    results: list[JSONObject] = [
        {"index": 1, "kind": "sft", "label": "1-sft", "steps": 120},
        eval_result(STAGES[1], "1-sft", 84),
        {"index": 3, "kind": "rl", "label": "3-rl", "steps": 40},
        eval_result(STAGES[3], "3-rl", 186),
    ]
    for step in range(120):
        values = {"train/loss": 2.3 * math.exp(-step / 30) + 0.2 + rng.gauss(0, 0.04), "train/learning_rate": 1e-4}
        append_step(run, STAGES[0], StepMetrics(step=step, values=values))
    for step in range(40):
        append_step(run, STAGES[2], rl_metrics(step, rng))
    for stage, result in zip(STAGES, results, strict=True):
        append_result(run, stage, result)
        write_trajectories(folder, stage, rng)
    written = {"name": "quickstart", "seed": 0, "stages": results, "optimizer_steps": 160, "seconds": 1043.7}
    (folder / "results.json").write_text(json.dumps(written), encoding="ascii")
    return run


@pytest.fixture
def finished_run(tmp_path: Path) -> RunInfo:
    """A finished run with everything a report can show."""
    return make_run(tmp_path / "quickstart-1")


@pytest.fixture
def bare_run(tmp_path: Path) -> RunInfo:
    """A run whose folder is empty."""
    folder = tmp_path / "bare"
    folder.mkdir()
    return RunInfo(id="p1", name="bare", folder=folder, resolved={}, stages=STAGES)


@pytest.fixture
def hostile_text() -> str:
    """Text that breaks out of careless HTML and of careless files."""
    return HOSTILE


@pytest.fixture
def make_trajectory() -> Iterator[Callable[..., Trajectory]]:
    """Build a trajectory of a stage."""

    def build(stage: StageInfo, success: bool | None, number: int = 0, turns: int = 4) -> Trajectory:
        return trajectory(number, stage, success, Random(number), turns)

    yield build
