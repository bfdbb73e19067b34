"""Records are exact with real tokenizers, whatever a chat template does to earlier turns."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.tokens_episodes import play, require_exact
from tests.integration.tokens_templates import TEMPLATES, make_tokenizer, odd_ids

from tumbler.contracts.context import ContextStrategy
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.todo import Todo, TodoSettings
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

EPISODES = 8
STRATEGIES: list[Callable[[], list[ContextStrategy]]] = [
    list,
    lambda: [TruncateOutput(TruncateOutputSettings(max_tokens=100)), Window(WindowSettings(keep_last=2))],
    lambda: [MaskObservations(MaskObservationsSettings(keep=1, poll=2)), Todo(TodoSettings(every=2))],
    lambda: [SummaryStrategy(SummarySettings(threshold=0.7, keep_last=2, max_tokens=150))],
]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HuggingFaceTokenizer]:
    root: Path = tmp_path_factory.mktemp("tokenizers")
    return {name: HuggingFaceTokenizer(make_tokenizer(root / name, text)) for name, text in TEMPLATES.items()}


@pytest.mark.parametrize("strategies", STRATEGIES)
@pytest.mark.parametrize("template", TEMPLATES)
async def test_records_are_exact_with_every_kind_of_template(
    template: str, strategies: Callable[[], list[ContextStrategy]], tokenizers: dict[str, HuggingFaceTokenizer]
) -> None:
    tokenizer = tokenizers[template]
    for seed in range(EPISODES):
        played = await play(strategies(), seed, tokenizer=tokenizer, odd=odd_ids(tokenizer))
        require_exact(played)
        if any(each.caps.bounded for each in strategies()):
            assert played.trajectory.status_reason == "turn_limit"


@pytest.mark.parametrize("template", TEMPLATES)
async def test_a_conversation_that_only_grows_is_one_segment(
    template: str, tokenizers: dict[str, HuggingFaceTokenizer]
) -> None:
    tokenizer = tokenizers[template]
    for seed in range(EPISODES):
        played = await play([], seed, tokenizer=tokenizer, odd=odd_ids(tokenizer), beside=())
        require_exact(played)
        assert [segment.cause for segment in played.trajectory.segments] == ["start"]
        assert len(played.trajectory.chunks) > 1
