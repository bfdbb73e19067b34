"""The evaluation part of the report: a table and an interval plot for each environment."""

from collections.abc import Sequence

from tumbler_backends.observers.evaluation import Evaluation, by_environment
from tumbler_backends.observers.report.markup import Markup, element
from tumbler_backends.observers.report.scale import figure

__all__ = ["evaluation_section"]


def evaluation_section(found: Sequence[Evaluation]) -> Markup | None:
    """Return the section, or None for a run without evaluations."""
    if not found:
        return None
    panels = [_panel(env, each) for env, each in by_environment(found).items()]
    note = "Success on held-out tasks. Whiskers and brackets are 95 % Wilson intervals."
    return element("section", element("h2", "Evaluation"), element("p", note, class_="note"), *panels, id="evaluation")


def _panel(env: str, found: Sequence[Evaluation]) -> Markup:
    return element(
        "div",
        element("h3", env),
        element("div", _table(found), class_="scroll"),
        class_="card evaluation",
    )


def _table(found: Sequence[Evaluation]) -> Markup:
    titles = ("Weights", "Success", "", "95 % interval", "Change", "Solved", "Turns", "Infra failed")
    classes = ("", "number", "wide", "number", "number", "number", "number", "number")
    head = [element("th", title, class_=name or None, scope="col") for title, name in zip(titles, classes, strict=True)]
    return element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *(_row(each, found[0]) for each in found)),
        element(
            "tfoot",
            element("tr", element("td", colspan=2), element("td", _axis(), class_="wide"), element("td", colspan=5)),
        ),
    )


def _row(each: Evaluation, first: Evaluation) -> Markup:
    change = "" if each is first else _points(each.rate - first.rate)
    turns = "" if each.mean_turns is None else figure(each.mean_turns)
    rate = element("td", element("strong", f"{100 * each.rate:.1f} %"), class_="number")
    numbers = (
        f"{100 * each.low:.1f} to {100 * each.high:.1f}",
        change,
        f"{each.successes} / {each.episodes}",
        turns,
        str(each.infra_failed),
    )
    weights = element("td", f"after {each.after}" if each.after else "at the start", element("small", each.stage))
    interval = element("td", _interval(each), class_="wide")
    return element("tr", weights, rate, interval, *(element("td", number, class_="number") for number in numbers))


def _points(change: float) -> str:
    sign = "+" if change > 0 else "\N{MINUS SIGN}" if change < 0 else "±"
    return f"{sign}{abs(100 * change):.1f} pp"


def _interval(each: Evaluation) -> Markup:
    low, rate, high = (round(8 + 304 * share, 1) for share in (each.low, each.rate, each.high))
    label = f"{100 * each.rate:.1f} %, interval {100 * each.low:.1f} to {100 * each.high:.1f} %"
    return element(
        "svg",
        element("title", label),
        *(element("line", class_="grid", x1=x, x2=x, y1=0, y2=28) for x in (8, 84, 160, 236, 312)),
        element("line", class_="rail", x1=8, x2=rate, y1=14, y2=14),
        element("line", class_="whisker", x1=low, x2=high, y1=14, y2=14),
        element("line", class_="whisker", x1=low, x2=low, y1=9, y2=19),
        element("line", class_="whisker", x1=high, x2=high, y1=9, y2=19),
        element("circle", class_="point", cx=rate, cy=14, r=5),
        viewBox="0 0 320 28",
        role="img",
        class_="interval",
    )


def _axis() -> Markup:
    marks = [
        element("text", f"{share} %", class_="tick middle", x=min(max(8 + 3.04 * share, 12), 302), y=11)
        for share in (0, 25, 50, 75, 100)
    ]
    return element("svg", *marks, viewBox="0 0 320 14", class_="interval", aria_hidden="true")
