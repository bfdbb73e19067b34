"""What a sandbox's tags on Modal say beside its labels, so that another process can find it; knows no sandbox."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tumbler.contracts.sandbox import SandboxSpec

__all__ = ["CREATION", "KEY", "OWNER", "RESERVED", "Passport"]

RESERVED: Final = "tumbler-"
"""Labels that begin so are refused: they are the backend's own."""
OWNER: Final = "tumbler-owner"
KEY: Final = "tumbler-key"
CREATION: Final = "tumbler-creation"
_EXPIRES: Final = "tumbler-expires"
_CREATED: Final = "tumbler-created"
_WORKDIR: Final = "tumbler-workdir"
_NAME: Final = "tumbler-name"
_IMAGE: Final = "tumbler-image"
_USER: Final = "tumbler-user"


@dataclass(frozen=True, kw_only=True)
class Passport:
    """Whose a sandbox is, and how long it may live."""

    owner: str
    created: float
    """Seconds since the epoch."""
    expires: float
    """Seconds since the epoch."""
    creation: str
    """A random word that finds a sandbox whose creation broke off."""
    user: str
    """The user and group number that commands run as; empty is the service's own."""

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> "Passport":
        """Read it from a sandbox's tags; what is missing there makes it nobody's, without an end."""
        return cls(
            owner=tags.get(OWNER, ""),
            created=_number(tags.get(_CREATED), 0.0),
            expires=_number(tags.get(_EXPIRES), float("inf")),
            creation=tags.get(CREATION, ""),
            user=tags.get(_USER, ""),
        )

    def extended(self, ttl: float) -> "Passport":
        """Return the same with `ttl` seconds from now on."""
        return replace(self, expires=time.time() + ttl)

    def tags(self, spec: SandboxSpec) -> dict[str, str]:
        """Return all tags of a sandbox; no variable's value and no file is in them."""
        own = {
            OWNER: self.owner,
            CREATION: self.creation,
            _CREATED: f"{self.created:.6f}",
            _EXPIRES: f"{self.expires:.6f}",
            _WORKDIR: spec.workdir,
            _NAME: spec.name or "",
            _IMAGE: spec.image or "",
            _USER: self.user,
            KEY: spec.idempotency_key or "",
        }
        return {**spec.labels, **{name: value for name, value in own.items() if value}}

    def spec(self, tags: Mapping[str, str]) -> SandboxSpec:
        """Return the spec of a sandbox that another process made, without variables, files and policy."""
        return SandboxSpec(
            workdir=tags.get(_WORKDIR, "/"),
            name=tags.get(_NAME),
            image=tags.get(_IMAGE),
            ttl=self.expires - self.created,
            labels={name: value for name, value in tags.items() if not name.startswith(RESERVED)},
        )


def _number(text: str | None, default: float) -> float:
    try:
        return float(text) if text is not None else default
    except ValueError:  # made by something other than Tumbler
        return default
