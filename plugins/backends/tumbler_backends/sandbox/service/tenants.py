"""Who calls: tokens, and what each tenant may still use."""

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import Final

from tumbler.errors import PolicyDenied, QuotaExceeded
from tumbler_backends.sandbox.service.settings import DEFAULT_TENANT, Quota, ServiceSettings

__all__ = ["RateLimited", "Tenant", "Tenants", "Unauthorized"]

_BURST_S: Final = 10.0


class Unauthorized(PolicyDenied):
    """The request carries no token, or one that is not known."""


class RateLimited(QuotaExceeded):
    """Too many creations in a short time; `retry_after` says how long to wait."""

    retry_after: float

    def __init__(self, message: str, retry_after: float) -> None:
        """Keep the seconds to wait."""
        super().__init__(message)
        self.retry_after = retry_after


@dataclass
class _Bucket:
    """Lets `rate` creations a second pass, and a burst of ten seconds' worth."""

    rate: float
    level: float = field(init=False)
    updated: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = self._size

    @property
    def _size(self) -> float:
        return max(1.0, self.rate * _BURST_S)

    def take(self) -> float:
        """Take one and return 0, or return the seconds until there is one."""
        now = time.monotonic()
        self.level = min(self._size, self.level + (now - self.updated) * self.rate)
        self.updated = now
        if self.level < 1:
            return (1 - self.level) / self.rate
        self.level -= 1
        return 0.0


class Tenant:
    """One tenant and its quota."""

    def __init__(self, name: str, quota: Quota) -> None:
        """Start with a full allowance."""
        self.name = name
        self.quota = quota
        self._bucket = None if quota.creates_per_second is None else _Bucket(quota.creates_per_second)

    def count_creation(self) -> None:
        """Count one creation; raise `RateLimited` when there are too many."""
        wait = 0.0 if self._bucket is None else self._bucket.take()
        if wait:
            raise RateLimited(f"more than {self.quota.creates_per_second:g} creations a second", wait)

    def require_ttl(self, ttl: float) -> None:
        """Raise `QuotaExceeded` for a longer life than this tenant may give a sandbox."""
        if self.quota.ttl is not None and ttl > self.quota.ttl:
            raise QuotaExceeded(f"a ttl of {ttl:g} s is more than the {self.quota.ttl:g} s of this token's quota")


class Tenants:
    """All tenants of the service."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Keep digests of the tokens, not the tokens."""
        self._open = None if settings.tenants else Tenant(DEFAULT_TENANT, settings.quota)
        self._by_digest = [
            (_digest(each.token.get_secret_value()), Tenant(each.name, each)) for each in settings.tenants
        ]

    @property
    def open(self) -> bool:
        """Return whether no token is needed."""
        return self._open is not None

    def of(self, token: str | None) -> Tenant:
        """Return the tenant with this token; raise `Unauthorized` if there is none."""
        if self._open is not None:
            return self._open
        if not token:
            raise Unauthorized("this service needs a token: send it as `Authorization: Bearer TOKEN`")
        given, found = _digest(token), None
        for digest, tenant in self._by_digest:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, given):
                found = tenant
        if found is None:
            raise Unauthorized("the token is not one that this service knows")
        return found

    def named(self, name: str) -> Tenant:
        """Return the tenant of that name; raise `Unauthorized` if there is none."""
        known = [self._open] if self._open is not None else [tenant for _, tenant in self._by_digest]
        for tenant in known:
            if tenant.name == name:
                return tenant
        raise Unauthorized(f"there is no tenant {name!r}")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
