"""Opens the model of a conversation: one behind an API, one of a folder, or what a run has trained."""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from tumbler.cli.agents.choosing import Chosen
from tumbler.cli.agents.local import LocalMind
from tumbler.cli.agents.minds import Mind, room_for_reply
from tumbler.cli.agents.naming import backend_or_default, component_of
from tumbler.cli.agents.served import ServedMind
from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.chat import ChatModel
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.contracts.values import JSON
from tumbler.errors import RunError
from tumbler.registry import ResolvedRun
from tumbler.run.command import trained_model

__all__ = ["ModelOptions", "opened_mind"]

_TEMPERATURE: Final = 0.7


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What the person says of the model; one of `upstream`, `folder` and `run` is there."""

    upstream: str | None = None
    """The address of an API, or a table under [backends] that has one."""
    model: str | None = None
    key_variable: str | None = None
    context_length: int | None = None
    folder: Path | None = None
    inference: str | None = None
    """What serves a local model; None takes the installed default."""
    inference_settings: Sequence[str] = ()
    run: Path | None = None
    checkpoint: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None


@asynccontextmanager
async def opened_mind(
    shelf: Shelf, options: ModelOptions, chosen: Chosen, resolved: ResolvedRun | None
) -> AsyncGenerator[Mind]:
    """Yield the model, ready to speak; `resolved` is the run that the options name."""
    if options.upstream is not None:
        served = _served(shelf, options, options.upstream)
        try:
            yield served
        finally:
            await served.close()
        return
    folder, inference = _local(shelf, options, resolved)
    try:
        await inference.start(folder)
        yield _mind(options, chosen, resolved, folder, inference)
    finally:
        await inference.close()


def _served(shelf: Shelf, options: ModelOptions, upstream: str) -> ServedMind:
    settings: dict[str, JSON] = {}
    is_address = "://" in upstream
    if is_address:
        settings["base_url"] = upstream
    elif component_of(shelf, upstream) not in shelf.backends("chat"):
        raise RunError(
            f"--upstream {upstream!r} is neither an address such as http://127.0.0.1:8000/v1 nor a table under "
            f"[backends] of the --registry that uses one of: {', '.join(shelf.backends('chat')) or '(none installed)'}"
        )
    if options.model is not None:
        settings["model"] = options.model
    elif is_address:
        raise RunError("say which of the server's models to use: --model NAME")
    if options.key_variable is not None:
        settings["api_key"] = _key(options.key_variable)
    if options.context_length is not None:
        settings["context_length"] = options.context_length
    shelf, backend = backend_or_default(
        shelf,
        None if is_address else upstream,
        "chat",
        option="--upstream, as a table under [backends]",
        settings=settings,
    )
    model = cast("ChatModel", shelf.backend(backend, settings))
    source = "from --context-length" if options.context_length is not None else f"from [backends.{upstream}]"
    if is_address and options.context_length is None:
        source = "assumed; --context-length says better"
    named = f"{options.model} at {upstream}" if options.model else upstream
    return ServedMind(
        model=model,
        name=named,
        window_source=source,
        key_variable=options.key_variable,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
    )


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RunError(f"--api-key-env names ${variable}, which is not set; set it to the key, or leave the option out")
    return key


def _local(shelf: Shelf, options: ModelOptions, resolved: ResolvedRun | None) -> tuple[Path, InferenceBackend]:
    """Return the model folder and the engine, not started."""
    if options.run is not None and resolved is not None:
        folder = trained_model(options.run, options.checkpoint)
        return folder, cast("InferenceBackend", resolved.backends["inference"].build(shelf.host))
    if options.folder is None:
        raise RunError("say which model speaks: --upstream URL --model NAME, --model-folder PATH, or --run FOLDER")
    if not options.folder.is_dir():
        raise RunError(f"there is no model folder {options.folder}")
    if not (options.folder / "config.json").is_file():
        raise RunError(f"{options.folder} holds no model in Hugging Face format: it has no config.json")
    shelf, backend = backend_or_default(shelf, options.inference, "inference", option="--inference NAME")
    engine = shelf.backend(backend, {}, options.inference_settings)
    return options.folder, cast("InferenceBackend", engine)


def _mind(
    options: ModelOptions, chosen: Chosen, resolved: ResolvedRun | None, folder: Path, inference: InferenceBackend
) -> LocalMind:
    window = inference.tokenizer.context_length
    if resolved is None:
        sampling = Sampling(max_tokens=room_for_reply(window, options.max_tokens), temperature=_TEMPERATURE)
    else:
        sampling = resolved.sampling
    if options.max_tokens is not None:
        sampling = replace(sampling, max_tokens=options.max_tokens)
    if options.temperature is not None:
        sampling = replace(sampling, temperature=options.temperature)
    if sampling.max_tokens >= window:
        raise RunError(f"--max-tokens {sampling.max_tokens} leaves no room for a conversation: the window is {window}")
    return LocalMind(
        inference=inference,
        name=str(folder),
        sampling=sampling,
        agent=chosen.components[0],
        context=chosen.components[1:],
        clear_at_least=0 if resolved is None else resolved.limits.clear_at_least,
    )
