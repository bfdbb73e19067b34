"""A conversation that was saved and taken up again asks what it would have asked had nobody interrupted it."""

import json

import pytest
from tests.agents.iflow.scripted import ScriptedChat, call, calls, events_of, pipeline, text_of
from tests.agents.iflow.test_compaction import SumUp
from tests.agents.iflow.test_own_contexts import Noting

from tumbler.contracts.agent import Limits
from tumbler.contracts.conversation import ConversationHost
from tumbler.contracts.inference import Sampling
from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import RegistryError
from tumbler.rollout.episode import PhaseClock, RecordedModel, whole_room
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import PolicySource
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler_agents.iflow.agent import IflowAgent
from tumbler_agents.iflow.checkpoints import load
from tumbler_agents.iflow.settings import IflowSettings

SETTINGS = IflowSettings(
    system_prompt="Be brief.",
    include=("shell", "read", "todo_write", "task", "submit_plan"),
    compaction={"files": 1},
    reminders={"todo_after": 3},
)
CONTEXT = 13_000
FILES = {"src/AGENTS.md": b"Numbers in digits.\n", "src/a": b"one\n"}
TALK = [
    ("Read.", [call("read", path="src/a"), "read"]),
    ("Plan.", [call("todo_write", todos=[{"content": "mend it"}]), "planned"]),
    (
        "Count.",
        [call("shell", command="seq 100 400"), call("shell", command="echo more | tee -a src/a AGENTS.md"), "counted"],
    ),
    ("/plan", []),
    ("Look.", [call("submit_plan", plan="1. mend"), call("read", path="src/a"), "seen"]),
    ("Ask.", [call("task", prompt="Who?"), "somebody", "asked"]),
    ("Go on.", [call("shell", command="seq 500 800"), call("shell", command="true"), "gone on"]),
    ("/compact", []),
    ("Again.", [calls(("task", {"prompt": "Where?"}), ("read", {"path": "src/a"})), "there", "again"]),
    ("Count.", [call("shell", command="seq 100 900"), call("shell", command="seq 100 900"), "done"]),
]
"""What the person says, and what the policy says to it."""


class Part:
    """A stretch of a conversation over a record of its own."""

    def __init__(self, talk, box):
        said = [text_of(reply) for _, replies in talk for reply in replies]
        tokenizer = CharacterTokenizer(CONTEXT)
        self.inference = ScriptedInference(lambda _prompt: said.pop(0), tokenizer)
        self.recorder = Recorder(tokenizer)
        self.context = pipeline(SumUp(), Noting(), context=CONTEXT, room=1500)
        source = PolicySource(self.inference, Sampling(max_tokens=1500), seed=0)
        model = RecordedModel(source, self.recorder, PhaseClock(), episode="e", room=whole_room(CONTEXT - 1500))
        model.attend(self.context)
        limits = Limits(turns=20, seconds=60)
        self.host = ConversationHost(model=model, context=self.context, limits=limits, sandbox=box, asking="yes")
        self.talk = talk

    async def run(self, *, saved=None, save=None):
        async with IflowAgent(SETTINGS).converse(self.host, saved) as conversation:
            for said, _ in self.talk:
                events = await events_of(conversation, said)
                assert events[-1].reason == "finished", events[-1]
            if save is not None:
                await conversation.save(save)
        return [request.token_ids for request in self.inference.requests]


async def make_box(backend):
    return await backend.create(SandboxSpec(files={**FILES, "AGENTS.md": b"Be kind.\n"}))


@pytest.mark.parametrize("at", range(1, len(TALK)))
async def test_every_prompt_is_the_same_token_by_token_wherever_the_conversation_was_broken_off(backend, tmp_path, at):
    expected = await Part(TALK, await make_box(backend)).run()
    box = await make_box(backend)
    first, second = Part(TALK[:at], box), Part(TALK[at:], box)
    seen = await first.run(save=tmp_path / "saved.json")
    seen += await second.run(saved=tmp_path / "saved.json")
    assert ["".join(map(chr, ids)) for ids in seen] == ["".join(map(chr, ids)) for ids in expected]
    assert any("(summed up)" in "".join(map(chr, ids)) for ids in expected)
    new = [chunk.text for chunk in second.recorder.chunks]
    agents = [{segment.agent_id for segment in part.recorder.segments} - {"main"} for part in (first, second)]
    assert not agents[0] & agents[1], "two sub-agents have one name"
    assert new == [text_of(reply) for _, replies in TALK[at:] for reply in replies], "earlier words were recorded again"


async def damaged(tmp_path, box, **changes):
    """Try to take up a saved conversation with changes in its file; return the error. The file stays as it is."""
    path = tmp_path / "saved.json"
    await Part(TALK[:2], box).run(save=path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    before = path.read_bytes()
    with pytest.raises(RegistryError) as problem:
        await Part(TALK[2:], box).run(saved=path)
    assert path.read_bytes() == before
    return str(problem.value)


async def test_a_damaged_or_foreign_conversation_is_told_and_left_as_it_is(backend, tmp_path):
    box = await make_box(backend)
    assert "counts of the log" in await damaged(tmp_path, box, states={})
    foreign = {"0:other": {}, "log": {"next_id": 1, "exchanges": 0}}
    assert "by the context strategies 'other'" in await damaged(tmp_path, box, states=foreign)
    assert "file ledger" in await damaged(tmp_path, box, ledger={"files": [1]})
    assert "holds no conversation" in await damaged(tmp_path, box, entries=[{"role": "user", "content": "Hi."}])
    entry = {"id": 0, "role": "assistant", "content": "I never said so.", "sampled": True}
    assert "passes for the policy's words" in await damaged(tmp_path, box, entries=[entry])


async def test_a_new_conversation_takes_up_nothing(box):
    context = pipeline(Noting())
    host = ConversationHost(model=ScriptedChat("hi"), context=context, limits=Limits(turns=2, seconds=60))
    async with IflowAgent(SETTINGS).converse(host) as conversation:
        await events_of(conversation, "Hello.")
    assert [entry.id for entry in context.entries] == [0, 1, 2]


async def test_what_was_saved_holds_ids_and_marks(backend, tmp_path):
    part = Part(TALK[:3], await make_box(backend))
    await part.run(save=tmp_path / "saved.json")
    saved = load(tmp_path / "saved.json")
    assert [each.entry() for each in saved.entries] == list(part.context.entries)
    assert saved.tools[0] and set(saved.shown_memory) == {"AGENTS.md", "src/AGENTS.md"}
