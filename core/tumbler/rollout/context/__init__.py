"""The conversation log of an episode and the strategies that plan edits of what the model sees."""

from tumbler.rollout.context.pipeline import NamedStrategy, StrategyPipeline

__all__ = ["NamedStrategy", "StrategyPipeline"]
