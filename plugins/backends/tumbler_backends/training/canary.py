"""The sequence by whose log-probabilities an inference backend sees whether new weights arrived. Knows no trainer."""

from transformers import PreTrainedConfig

__all__ = ["canary_tokens"]

TOKENS = 32
"""So many that most of what a model can do takes part, and so few that they cost next to nothing."""


def canary_tokens(config: PreTrainedConfig) -> tuple[int, ...]:
    """Return ids spread over the model's vocabulary, the same for every model of that size."""
    text = config.get_text_config()
    count = min(TOKENS, getattr(text, "max_position_embeddings", None) or TOKENS)
    vocabulary = text.vocab_size
    # By the golden ratio, any number of which is about evenly spread and in no order.
    return tuple(int((0.5 + index * 0.6180339887) % 1 * vocabulary) for index in range(count))
