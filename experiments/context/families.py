"""The twelve families of tasks, each a function from a seed to a script; knows no strategy and no policy."""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from experiments.context.drafting import ITEMS, SWEEPS, Draft, asking, noise
from experiments.context.grammar import CLOSING, ORDER, Fact
from experiments.context.script import Script, Step, call

from tumbler.seeding import derive_seed

__all__ = ["FAMILIES", "build"]

_WORDS: Final = ("zeta", "sigma", "kappa", "omega", "delta", "theta", "lambda")
_SITES: Final = ("oak", "ash", "elm", "fir", "yew", "bay")
_JOBS: Final = ("alpha", "beta", "gamma")
_SURVEY_LINES: Final = (60, 130)
_LOOK_ALIKE: Final = 18
_CARD_LINES: Final = 6


def build(family: str, seed: int) -> Script:
    """Return the task of a family; equal seeds give equal ones."""
    return FAMILIES[family](Draft(Random(derive_seed(seed, "context", family))), family)


def _reread(draft: Draft, family: str) -> Script:
    """A fact stands on a card that can be read again at any time."""
    fact = Fact("code", "amber-7", draft.number())
    lines = [noise(draft.rng) for _ in range(_CARD_LINES)]
    lines.insert(draft.rng.randint(0, _CARD_LINES), str(fact))
    card = "\n".join(lines)
    reading = Step(text="", request="read the card amber-7", calls=(call("read", name="amber-7"),), brings=(card,))
    draft.items[draft.rng.randrange(ITEMS)].after.append(reading)
    draft.scatter()
    draft.lay()
    draft.ask(fact)
    return draft.script(family, [fact], more="Cards can be read again at any time.", cards={"amber-7": card})


def _shown_once(draft: Draft, family: str) -> Script:
    """An item of the first sweep tells a code, and the last request asks for it."""
    fact = Fact("code", "amber-7", draft.number())
    draft.tell(fact, sweep=0)
    draft.scatter()
    draft.lay()
    draft.ask(fact)
    return draft.script(family, [fact])


def _last_write(draft: Draft, family: str) -> Script:
    """Three items tell the same code, each another; the last one counts."""
    facts = [Fact("code", "amber-7", draft.number()) for _ in range(SWEEPS - 1)]
    for sweep, fact in enumerate(facts):
        draft.tell(fact, sweep=sweep)
    draft.scatter()
    draft.lay()
    draft.ask(facts[-1])
    return draft.script(family, [facts[-1]])


def _user_rule(draft: Draft, family: str) -> Script:
    """The user says with which word reports end."""
    rule = Fact(*CLOSING, draft.rng.choice(_WORDS))
    draft.items[draft.rng.randrange(ITEMS)].user = f"A rule for all that you report from now on. {rule}"
    return _ruled(draft, family, rule)


def _tool_rule(draft: Draft, family: str) -> Script:
    """An item says with which word reports end."""
    rule = Fact(*CLOSING, draft.rng.choice(_WORDS))
    draft.tell(f"A notice hangs on the door. {rule}", sweep=0)
    return _ruled(draft, family, rule)


def _ruled(draft: Draft, family: str, rule: Fact) -> Script:
    for sweep in range(1, SWEEPS):
        draft.items[sweep * ITEMS + draft.rng.randrange(ITEMS)].after.append(_tally(draft, rule))
    draft.scatter()
    draft.lay()
    draft.add(_tally(draft, rule))
    return draft.script(family, [rule])


def _tally(draft: Draft, rule: Fact) -> Step:
    number = draft.number()
    answer = call("report", value=number, closing=rule.value)
    return Step(text="", request=f"report the number {number}", calls=(answer,), scored=True)


def _exactly_once(draft: Draft, family: str) -> Script:
    """Parcels are to be shipped, some are asked for again, and none may be shipped twice."""
    parcels = [f"parcel-{number}" for number in range(1, 7)]
    again = draft.rng.sample(parcels[:5], 3)
    for place, parcel in enumerate(parcels):
        draft.items[2 * place + 1].after.append(_shipping(parcel, shipped=False))
    draft.scatter()
    draft.lay()
    for parcel in again:
        draft.add(_shipping(parcel, shipped=True))
    return draft.script(family, [Fact("state", parcel, "shipped") for parcel in again])


def _shipping(parcel: str, *, shipped: bool) -> Step:
    right, wrong = ("skip", "ship") if shipped else ("ship", "skip")
    return Step(
        text="",
        request=f"ship {parcel} unless it was shipped before",
        calls=(call(right, subject=parcel),),
        instead=(wrong,),
        brings=("" if shipped else str(Fact("state", parcel, "shipped")),),
        scored=True,
    )


def _plan_progress(draft: Draft, family: str) -> Script:
    """Sites are to be inspected in an order that is told once."""
    order = draft.rng.sample(_SITES, len(_SITES))
    plan = Fact(*ORDER, ", ".join(order))
    draft.items[draft.rng.randint(1, 2)].said.append(plan)
    states = [Fact("state", site, "inspected") for site in order]
    for place, state in enumerate(states):
        draft.items[3 * place + 2].after.append(
            Step(
                text="",
                request="inspect the next site of the order",
                calls=(call("inspect", subject=state.subject),),
                brings=(str(state),),
                scored=True,
            )
        )
    draft.scatter()
    draft.lay()
    return draft.script(family, [plan, *states])


def _artifacts(draft: Draft, family: str) -> Script:
    """Sections are saved under names that only the answers tell, and at the end all names are wanted."""
    documents = [Fact("document", f"section-{number}", f"doc-{draft.number()}") for number in range(1, 6)]
    for place, document in enumerate(documents):
        saving = call("save", subject=document.subject)
        step = Step(text="", request=f"save {document.subject}", calls=(saving,), brings=(str(document),))
        draft.items[3 * place + 1].after.append(step)
    draft.scatter()
    draft.lay()
    names = ", ".join(document.value for document in documents)
    subjects = ", ".join(document.subject for document in documents)
    publishing = call("publish", documents=names)
    draft.add(Step(text="", request=f"publish the documents of {subjects}", calls=(publishing,), scored=True))
    return draft.script(family, documents)


def _pending_calls(draft: Draft, family: str) -> Script:
    """Three jobs start at once; one ends many turns later, and soon after that all results are asked for."""
    results = [Fact("result", job, draft.number()) for job in _JOBS]
    start, delay = draft.rng.randrange(2, 5), draft.rng.randint(8, 14)
    draft.items[start].after.append(
        Step(
            text="",
            request=f"start the jobs {', '.join(_JOBS)} at once",
            calls=tuple(call("start", subject=job) for job in _JOBS),
            brings=tuple(map(str, results)),
            delays=(0, delay, 0),
        )
    )
    draft.scatter()
    asked = min(start + delay + draft.rng.randint(0, 3), len(draft.items) - 1)
    for fact in results:
        draft.items[asked].after.append(asking(fact))
    draft.lay()
    return draft.script(family, results)


def _helper_result(draft: Draft, family: str) -> Script:
    """A helper reads a card that nobody else can read, and answers once."""
    fact = Fact("price", "cedar-2", draft.number())
    lines = [noise(draft.rng) for _ in range(_CARD_LINES)]
    lines.insert(draft.rng.randint(0, _CARD_LINES), str(fact))
    request = f"ask a helper for the {fact.attribute} of {fact.subject}"
    step = Step(text="", request=request, calls=(call("ask_helper", subject=fact.subject),))
    draft.items[draft.rng.randrange(ITEMS)].after.append(step)
    draft.scatter()
    draft.lay()
    draft.ask(fact)
    return draft.script(family, [fact], cards={fact.subject: "\n".join(lines)}, helper=True)


def _distractors(draft: Draft, family: str) -> Script:
    """Many codes with names alike are told, and two of them are asked for."""
    numbers = draft.rng.sample(range(1, 99), _LOOK_ALIKE)
    attributes = ("code", "old code", "spare code")
    facts = [Fact(draft.rng.choice(attributes), f"amber-{number}", draft.number()) for number in numbers]
    for place, fact in enumerate(facts):
        draft.items[place].said.append(fact)
    draft.lay()
    asked = draft.rng.sample(facts[: _LOOK_ALIKE - ITEMS], 2)
    for fact in asked:
        draft.ask(fact)
    return draft.script(family, asked)


def _long_output(draft: Draft, family: str) -> Script:
    """A survey's output takes half of the window to all of it, and one line of it is asked for later."""
    fact = Fact("code", "amber-7", draft.number())
    lines = [f"Shelf {number}: {noise(draft.rng)}" for number in range(draft.rng.randint(*_SURVEY_LINES))]
    lines.insert(draft.rng.randint(0, len(lines)), str(fact))
    survey = Step(text="", request="run the survey", calls=(call("survey"),), brings=("\n".join(lines),))
    place = draft.rng.randrange(ITEMS, 2 * ITEMS)
    draft.items[place].after.append(survey)
    draft.scatter()
    draft.items[min(place + draft.rng.randint(2, 8), len(draft.items) - 1)].after.append(asking(fact))
    draft.lay()
    return draft.script(family, [fact])


FAMILIES: Final[Mapping[str, Callable[[Draft, str], Script]]] = MappingProxyType(
    {
        "re-readable fact": _reread,
        "shown-once fact": _shown_once,
        "last write wins": _last_write,
        "rule from the user": _user_rule,
        "rule in a tool result": _tool_rule,
        "exactly once": _exactly_once,
        "plan progress": _plan_progress,
        "artifact trail": _artifacts,
        "pending calls": _pending_calls,
        "helper's result": _helper_result,
        "distractors": _distractors,
        "one long output": _long_output,
    }
)
"""Name → what writes a script of the family."""
