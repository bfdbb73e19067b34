"""Registers the components of this distribution; imports nothing heavy, since every start imports it."""

from typing import TYPE_CHECKING

from tumbler import hookimpl
from tumbler.specs import AlgorithmSpec, BackendSpec, ContextStrategySpec, EnvironmentSpec

if TYPE_CHECKING:
    from tumbler.config import Settings
    from tumbler.contracts.algorithm import Algorithm
    from tumbler.contracts.context import ContextStrategy
    from tumbler.contracts.environment import Environment
    from tumbler.contracts.execution import ExecutionBackend


def _guess() -> "type[Environment]":
    from tumbler_hello.guess import Guess

    return Guess


def _guess_settings() -> "type[Settings]":
    from tumbler_hello.guess import GuessSettings

    return GuessSettings


def _best_of() -> "type[Algorithm]":
    from tumbler_hello.best_of import BestOf

    return BestOf


def _best_of_settings() -> "type[Settings]":
    from tumbler_hello.best_of import BestOfSettings

    return BestOfSettings


def _keep_last() -> "type[ContextStrategy]":
    from tumbler_hello.keep_last import KeepLast

    return KeepLast


def _keep_last_settings() -> "type[Settings]":
    from tumbler_hello.keep_last import KeepLastSettings

    return KeepLastSettings


def _sequential() -> "type[ExecutionBackend]":
    from tumbler_hello.sequential import Sequential

    return Sequential


def _no_settings() -> "type[Settings]":
    from tumbler.config import NoSettings

    return NoSettings


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    """Provide the environment `guess`."""
    return [EnvironmentSpec(name="guess", summary="Find a number.", load=_guess, config=_guess_settings)]


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    """Provide the algorithm `best-of`."""
    return [
        AlgorithmSpec(
            name="best-of",
            summary="Policy gradient in which only the best rollouts of each group are worth anything.",
            load=_best_of,
            config=_best_of_settings,
            extra="train",
            needs=("training", "inference", "execution"),
        )
    ]


@hookimpl
def tumbler_context_strategies() -> list[ContextStrategySpec]:
    """Provide the context strategy `keep-last`."""
    return [
        ContextStrategySpec(
            name="keep-last", summary="Show the last exchanges only.", load=_keep_last, config=_keep_last_settings
        )
    ]


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    """Provide the execution backend `sequential`."""
    return [
        BackendSpec(
            name="sequential",
            summary="One rollout at a time, in this process.",
            load=_sequential,
            config=_no_settings,
            roles=("execution",),
        )
    ]
