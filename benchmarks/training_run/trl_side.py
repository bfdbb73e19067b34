"""TRL's side: `GRPOTrainer` with an `environment_factory`, as its manual has it. A process of its own, given a job."""

import sys
import time

import torch
from contender import Job, Told, read_job
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer
from world import Episode, Shape, Waits, instruction

__all__: list[str] = []

RESPONSE = {
    "defaults": {"role": "assistant", "content": ""},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "content": "text",
            "repeats": True,
            "transform": {"type": "function", "function": {"name": "shell", "arguments": {"command": "{content}"}}},
        }
    },
}
"""How TRL reads a reply: the whole of it is a command."""


def environment(job: Job) -> type:
    """Return the class of environments; all of a job's wait by one sequence of times."""
    waits = Waits(job.latency, job.seed)
    shape = job.shape

    class Listing:
        def reset(self, task: str, **_: object) -> None:
            self._episode = Episode(task, shape)

        def shell(self, command: str) -> str:
            """Runs a command and shows what it prints.

            Args:
                command: The command.
            """
            time.sleep(waits.next())
            return self._episode.act(command)

        def get_reward(self) -> float:
            return self._episode.reward()

    return Listing


class Watch(TrainerCallback):
    """Notes when steps end."""

    def __init__(self, shape: Shape, told: Told) -> None:
        """Tell `told`."""
        self._shape = shape
        self._told = told
        self.trainer: GRPOTrainer | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Note the end of a step."""
        assert self.trainer is not None
        metrics = self.trainer._metrics["train"]
        sampled = round(metrics["completions/mean_length"][-1] * self._shape.trajectories)
        self._told.end_step(sampled=sampled, spread=metrics["reward_std"][-1])


def dataset(job: Job) -> Dataset:
    """Return as many tasks as the job has steps for."""
    count = job.shape.tasks * (job.warmup + job.steps)
    texts = [instruction(f"{job.seed}/{index}", job.shape.instruction) for index in range(count)]
    return Dataset.from_list([{"prompt": [{"role": "user", "content": text}], "task": text} for text in texts])


def settings(job: Job) -> GRPOConfig:
    """Return the same training as on the other side."""
    shape = job.shape
    return GRPOConfig(
        output_dir=f"{job.model}-trl",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=job.checkpointing,
        per_device_train_batch_size=shape.trajectories,
        gradient_accumulation_steps=1,
        num_generations=shape.group,
        max_steps=job.warmup + job.steps,
        max_completion_length=4096,
        max_tool_calling_iterations=shape.turns - 1,
        generation_kwargs={"max_new_tokens": shape.sampled, "min_new_tokens": shape.sampled},
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        loss_type="grpo",
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        shuffle_dataset=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        seed=job.seed,
    )


def main() -> None:
    """Train and tell."""
    job, answer = read_job(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    tokenizer.response_template = RESPONSE
    told = Told()
    watch = Watch(job.shape, told)
    trainer = GRPOTrainer(
        model=job.model,
        args=settings(job),
        train_dataset=dataset(job),
        processing_class=tokenizer,
        environment_factory=environment(job),
        callbacks=[watch],
    )
    watch.trainer = trainer
    assert next(trainer.model.parameters()).dtype == torch.float32
    trainer.train()
    answer(told)


if __name__ == "__main__":
    main()
