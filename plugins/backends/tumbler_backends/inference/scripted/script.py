"""Replies by rules: regular expressions that look for what was said last."""

import re
from collections.abc import Iterator

from tumbler.contracts.inference import GenerateRequest, TextTokenizer
from tumbler.errors import InferenceError
from tumbler_backends.inference.scripted.settings import ScriptedSettings
from tumbler_backends.inference.stand_in import Answer, StandIn

__all__ = ["ScriptedInference"]

_SHOWN = 400


class _Script:
    """Answers by the settings' rules."""

    def __init__(self, settings: ScriptedSettings) -> None:
        self._rules = [(re.compile(rule.when), rule.reply) for rule in settings.rules]
        self._otherwise = settings.otherwise

    def answer(self, request: GenerateRequest, tokenizer: TextTokenizer) -> Answer:
        """Return the reply of the rule that matches last, and the end of the turn; all of it is certain."""
        text = tokenizer.decode(request.token_ids)
        found = max(self._matches(text), key=lambda match: match[0].end(), default=None)
        if found is None and not self._otherwise:
            raise InferenceError(
                f"no rule of the script matches the prompt, which ends with {text[-_SHOWN:]!r}; add one, "
                "or set `otherwise`"
            )
        said = self._otherwise if found is None else found[0].expand(found[1])
        ids = [*tokenizer.encode(said), tokenizer.end_of_turn]
        return Answer(token_ids=ids, logprobs=[0.0] * len(ids))

    def _matches(self, text: str) -> Iterator[tuple[re.Match[str], str]]:
        """Yield the last match of each rule that has one, with the rule's reply."""
        for pattern, reply in self._rules:
            if matches := list(pattern.finditer(text)):
                yield matches[-1], reply


class ScriptedInference(StandIn):
    """Says what a script says. Log-probabilities are 0: nothing else could have been said."""

    def __init__(self, settings: ScriptedSettings) -> None:
        """Take the script."""
        super().__init__(_Script(settings))
