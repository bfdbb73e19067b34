"""Every error that Tumbler raises on purpose; each class is also the right builtin.

TumblerError
├── PluginError
│   ├── PluginConflictError (ValueError)         one name, two distributions
│   ├── PluginLoadError (ImportError)            a plugin could not be imported or registered
│   ├── ComponentNotFoundError (LookupError)     no installed plugin offers that name
│   └── MissingExtraError (ImportError)          a heavy package is not installed
├── ContractError (TypeError)                    a plugin's object breaks its contract
├── RegistryError (ValueError)                   registry.toml has problems; carries all of them
├── TrajectoryError (ValueError)                 a trajectory breaks a rule of the record
├── EpisodeError (RuntimeError)                  one episode could not go on
│   ├── ContextOverflowError                     the prompt no longer fits
│   ├── ContextPlanError (ValueError)            a context strategy's plan breaks a rule
│   ├── ReplayMismatchError                      a replayed chunk saw another observation
│   └── EpisodeTimeoutError (TimeoutError)       a wait in the episode reached its bound
├── InferenceError (RuntimeError)                the inference backend failed
├── RunError (RuntimeError)                      the run as a whole cannot go on
│   ├── RunFolderError (ValueError)              the run folder is missing, damaged or taken
│   └── TooManyFailuresError                     infrastructure failures passed the run's limit
└── SandboxError (RuntimeError)
    ├── SandboxUnavailable (ConnectionError)     the backend cannot be reached; maybe later
    ├── SandboxNotFound (LookupError)            no living sandbox has this id
    ├── SandboxDied                              the sandbox is gone
    ├── SandboxStartFailed                       it never came up
    ├── SandboxNameTaken (ValueError)            another living sandbox has the name
    ├── CapabilityError (NotImplementedError)    the backend cannot enforce what the spec asks
    ├── ExecTimeout (TimeoutError)               a checked command ran past its time
    ├── ExecFailed                               a checked command exited non-zero
    ├── OutputLimit                              more output than the caller allowed
    ├── QuotaExceeded                            a limit of the backend was reached
    ├── PolicyDenied (PermissionError)           the network or file policy forbids it
    └── SessionEnded (EOFError)                  the session's shell has exited
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tumbler.contracts.sandbox import ExecResult
    from tumbler.registry.problem import Problem

__all__ = [
    "CapabilityError",
    "ComponentNotFoundError",
    "ContextOverflowError",
    "ContextPlanError",
    "ContractError",
    "EpisodeError",
    "EpisodeTimeoutError",
    "ExecFailed",
    "ExecTimeout",
    "InferenceError",
    "MissingExtraError",
    "OutputLimit",
    "PluginConflictError",
    "PluginError",
    "PluginLoadError",
    "PolicyDenied",
    "QuotaExceeded",
    "RegistryError",
    "ReplayMismatchError",
    "RunError",
    "RunFolderError",
    "SandboxDied",
    "SandboxError",
    "SandboxNameTaken",
    "SandboxNotFound",
    "SandboxStartFailed",
    "SandboxUnavailable",
    "SessionEnded",
    "TooManyFailuresError",
    "TrajectoryError",
    "TumblerError",
]


class TumblerError(Exception):
    """The root of the tree: catch it to catch everything that Tumbler raises on purpose."""

    infra: ClassVar[bool] = False
    """Whether the infrastructure is at fault, not the policy: such an episode is masked and re-rolled."""


class PluginError(TumblerError):
    """A plugin, or the installation of plugins, is at fault."""


class PluginConflictError(PluginError, ValueError):
    """Two distributions, or two plugins of one, claim the same name."""


class PluginLoadError(PluginError, ImportError):
    """A plugin that is asked for could not be imported or registered."""


class ComponentNotFoundError(PluginError, LookupError):
    """No installed and enabled plugin offers the component."""


class MissingExtraError(PluginError, ImportError):
    """A component needs a package that is not installed."""


class ContractError(TumblerError, TypeError):
    """An object handed over by a plugin breaks the contract of its kind."""


class RegistryError(TumblerError, ValueError):
    """The registry cannot be used; the message lists every problem, one a line."""

    def __init__(self, message: str, problems: "tuple[Problem, ...]" = ()) -> None:
        """Keep the problems beside the message that lists them."""
        super().__init__(message)
        self.problems = problems


class TrajectoryError(TumblerError, ValueError):
    """A trajectory breaks a rule of the record; the message names the rule and the place."""


class EpisodeError(TumblerError, RuntimeError):
    """One episode could not go on."""


class ContextOverflowError(EpisodeError):
    """The prompt plus the reply's budget no longer fits the model's context."""


class ContextPlanError(EpisodeError, ValueError):
    """A context strategy asked for an edit that breaks a rule; `check` names the rule."""

    infra = True

    def __init__(self, message: str, check: str = "") -> None:
        """Keep the rule's name beside the message."""
        super().__init__(message)
        self.check = check


class ReplayMismatchError(EpisodeError):
    """A replayed chunk met an observation other than the recorded one."""

    infra = True


class EpisodeTimeoutError(EpisodeError, TimeoutError):
    """A wait in the episode reached its bound."""

    infra = True


class InferenceError(TumblerError, RuntimeError):
    """The inference backend failed to answer a request."""

    infra = True


class RunError(TumblerError, RuntimeError):
    """The run as a whole cannot go on."""


class RunFolderError(RunError, ValueError):
    """The run folder is missing, damaged, or belongs to another run."""


class TooManyFailuresError(RunError):
    """More rollouts failed for reasons of infrastructure than the run allows."""


class SandboxError(TumblerError, RuntimeError):
    """The root of what a sandbox backend raises."""

    infra = True
    retryable: ClassVar[bool] = False


class SandboxUnavailable(SandboxError, ConnectionError):
    """The backend cannot be reached or is not installed."""

    retryable = True


class SandboxNotFound(SandboxError, LookupError):
    """No living sandbox or template has this id."""

    infra = False


class SandboxDied(SandboxError):
    """The sandbox is gone; `cause` tells why: `oom`, `ttl`, `deleted`, `killed` or `host`."""

    def __init__(self, message: str, cause: str | None = None) -> None:
        """Keep the cause where it is known."""
        super().__init__(message)
        self.cause = cause


class SandboxStartFailed(SandboxError):
    """The sandbox never came up; `phase` tells where it stopped: `image`, `create`, `files`, `healthcheck`, others."""

    def __init__(self, message: str, phase: str | None = None) -> None:
        """Keep the phase where it is known."""
        super().__init__(message)
        self.phase = phase


class SandboxNameTaken(SandboxError, ValueError):
    """A living sandbox of the same owner has the name that the spec gives."""

    infra = False


class CapabilityError(SandboxError, NotImplementedError):
    """The backend cannot enforce or do what is asked; raised before anything starts."""

    infra = False


class ExecTimeout(SandboxError, TimeoutError):
    """A command run with `check` passed its time; `partial` is its result so far, and its output is in the message."""

    infra = False

    def __init__(self, message: str, partial: "ExecResult | None" = None) -> None:
        """Keep what the command had said."""
        super().__init__(message)
        self.partial = partial


class ExecFailed(SandboxError):
    """A command run with `check` exited non-zero."""

    infra = False


class OutputLimit(SandboxError):
    """More output arrived than the caller allowed."""

    infra = False


class QuotaExceeded(SandboxError):
    """A limit of the backend was reached: sandboxes, memory or disk."""


class PolicyDenied(SandboxError, PermissionError):
    """The network or file policy forbids the operation."""

    infra = False


class SessionEnded(SandboxError, EOFError):
    """The session's shell has exited; `exit_status` tells how."""

    infra = False

    def __init__(self, message: str, exit_status: int | None = None, partial: "ExecResult | None" = None) -> None:
        """Keep the shell's exit status where it is known, and what the last command had said."""
        super().__init__(message)
        self.exit_status = exit_status
        self.partial = partial
