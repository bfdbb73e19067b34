"""Put the report's page together; knows the parts, not how they are drawn."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from itertools import groupby

from tumbler import __version__
from tumbler.contracts.values import JSONObject
from tumbler_backends.observers.evaluation import outcome_sentence
from tumbler_backends.observers.jsonl.journal import StepRecord
from tumbler_backends.observers.reading import number, table, text
from tumbler_backends.observers.report.charts import stage_charts
from tumbler_backends.observers.report.evaluation_section import evaluation_section
from tumbler_backends.observers.report.markup import Markup, element, fragment
from tumbler_backends.observers.report.scale import duration
from tumbler_backends.observers.report.source import RunSource
from tumbler_backends.observers.report.viewer import viewer_section

__all__ = ["render_page"]

_KINDS = {"sft": "Supervised fine-tuning", "rl": "Reinforcement learning"}

_LONG = {"Setup", "Versions", "Command"}


def render_page(source: RunSource) -> str:
    """Return the report as one HTML document that loads nothing from anywhere."""
    name = _run_name(source)
    script = Markup(_asset("report.js"))
    head = (
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name} · Tumbler report"),
        element("style", Markup(_asset("report.css"))),
    )
    body = (
        element(
            "main",
            _header(source, name),
            evaluation_section(source.evaluations),
            *_training(source.steps),
            viewer_section(source.trajectories),
            _resolved(source.resolved),
        ),
        element("footer", f"Written by Tumbler {__version__} from the files in the run folder."),
        element("script", script),
    )
    return "<!doctype html>\n" + element("html", element("head", *head), element("body", *body), lang="en") + "\n"


def _asset(name: str) -> str:
    return resources.files("tumbler_backends.observers.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Allow this page's own script by its hash and nothing else, should an escape ever be missed."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _run_name(source: RunSource) -> str:
    return text(source.results.get("name")) or text(source.resolved.get("name")) or source.folder.resolve().name


def _header(source: RunSource, name: str) -> Markup:
    sentence = outcome_sentence(source.evaluations) or _without_evaluation(source)
    state = None if source.finished else element("span", "not finished", class_="badge running")
    return element(
        "header",
        element("p", element("b", "tumbler"), " run report", class_="brand"),
        element("h1", name, " ", state),
        element("p", sentence, class_="outcome"),
        element("dl", *_chips(source), class_="tiles"),
        class_="top",
    )


def _without_evaluation(source: RunSource) -> str:
    if not source.steps:
        return "Nothing has been measured yet."
    return f"{len(source.steps)} training steps; no evaluation."


def _chips(source: RunSource) -> list[Markup]:
    seconds = number(source.results.get("seconds"))
    steps = number(source.results.get("optimizer_steps"))
    seed = source.results.get("seed", source.resolved.get("seed"))
    trained = [step for step in source.steps if step.kind == "rl"]
    failed = sum(step.values.get("rollout/infra_failed", 0.0) for step in trained)
    facts = {
        "Stages": " → ".join(text(stage.get("kind")) for stage in source.stages),
        "Optimizer steps": "" if steps is None else f"{steps:,.0f}",
        "RL steps": str(len(trained)) if trained else "",
        "Duration": "" if seconds is None else duration(seconds),
        "Infra failures": f"{failed:.0f}" if trained else "",
        "Seed": "" if seed is None else str(seed),
        "Setup": _setup(source.resolved),
        "Versions": _versions(source.resolved),
        "Command": _command(source),
    }
    return [
        element("div", element("dt", name), element("dd", value), class_="long" if name in _LONG else None)
        for name, value in facts.items()
        if value
    ]


def _setup(resolved: JSONObject) -> str:
    parts = [table(resolved.get(role)) for role in ("env", "agent", "algorithm", "model")]
    parts += [table(backend) for backend in table(resolved.get("backends")).values()]
    return ", ".join(dict.fromkeys(filter(None, (text(part.get("id")) for part in parts))))


def _versions(resolved: JSONObject) -> str:
    """Name each distribution that a plugin of the run came from; the run has plugin → (distribution, version)."""
    found = {" ".join(map(str, each)) for each in table(resolved.get("versions")).values() if isinstance(each, list)}
    return ", ".join(sorted(found))


def _command(source: RunSource) -> str:
    command = source.resolved.get("command")
    if isinstance(command, str):
        return command
    return "tumbler run run.json" if source.resolved else ""


def _training(steps: Sequence[StepRecord]) -> list[Markup]:
    return [_stage(label, list(members)) for label, members in groupby(steps, key=lambda step: step.stage)]


def _stage(label: str, steps: list[StepRecord]) -> Markup:
    groups = [
        fragment([element("h3", group), element("div", *charts, class_="charts")])
        for group, charts in stage_charts(steps)
    ]
    kind = _KINDS.get(steps[0].kind, steps[0].kind)
    note = f"{label} · {len(steps)} steps" if len(steps) != 1 else f"{label} · one step"
    return element("section", element("h2", kind, element("small", note)), *groups)


def _resolved(resolved: JSONObject) -> Markup | None:
    if not resolved:
        return None
    shown = json.dumps(resolved, indent=2, ensure_ascii=False)
    return element(
        "section",
        element("h2", "Configuration"),
        element(
            "details", element("summary", "The resolved run, as in run.json"), element("pre", shown), class_="card"
        ),
    )
