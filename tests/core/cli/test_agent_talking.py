"""When a conversation is kept, and under which title."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tumbler.cli.agents.keeping import About, Shelves
from tumbler.cli.agents.minds import CONVERSATION
from tumbler.cli.agents.talking import Talk
from tumbler.contracts.values import Message
from tumbler.rollout.context import StrategyPipeline
from tumbler.testing.fakes import CharacterTokenizer


class Saving:
    """As much of a conversation as is needed to keep it."""

    saves = 0

    async def save(self, path: Path) -> None:
        self.saves += 1
        path.write_text("{}")


@pytest.fixture
def talk(tmp_path) -> Iterator[Talk]:
    context = StrategyPipeline([], CharacterTokenizer(4000), room=100, task=CONVERSATION, seed=0)
    about = About(title="", folder="/here", agent="a", model="m", begun="now")
    talk = Talk(
        conversation=Saving(), context=context, about=about, shelves=Shelves(tmp_path), record=lambda _folder: None
    )
    yield talk
    if talk.kept is not None:
        talk.kept.close()


def reply(talk: Talk) -> None:
    talk.context.append(Message(role="assistant", content="hello"), sampled=True)


async def test_what_a_workflows_command_has_begun_is_kept(talk):
    talk.said("/help", command=True)
    await talk.keep()
    assert talk.kept is None, "nobody has said anything"
    talk.said("/review main", command=True)
    reply(talk)
    await talk.keep()
    assert talk.kept is not None and talk.kept.about.title == "/review main"


async def test_a_title_is_what_the_person_has_said_first(talk):
    talk.said("/plan", command=True)
    talk.said("mend it")
    talk.said("/compact", command=True)
    reply(talk)
    await talk.keep()
    assert talk.kept is not None and talk.kept.about.title == "mend it"


async def test_a_conversation_that_goes_on_is_kept_also_after_commands_alone(talk):
    talk.kept = talk.shelves.begin(talk.about_with("before"))
    talk.said("/compact", command=True)
    await talk.keep()
    assert talk.conversation.saves == 1
