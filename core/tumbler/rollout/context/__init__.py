"""The conversation log of an episode and the strategies that plan edits of what the model sees."""

from tumbler.rollout.context.pipeline import StrategyPipeline
from tumbler.rollout.context.running import NamedStrategy

__all__ = ["NamedStrategy", "StrategyPipeline"]
