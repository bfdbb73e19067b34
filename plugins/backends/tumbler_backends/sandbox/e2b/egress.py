"""The egress log, where the service keeps one: E2B's own cloud does not; asks nobody itself."""

from collections.abc import Mapping
from typing import Final, Literal

from tumbler.contracts.sandbox_control import EgressRecord

__all__ = ["records_of"]

_PROTOCOLS: Final[dict[str, Literal["tcp", "udp", "dns", "other"]]] = {"tcp": "tcp", "udp": "udp", "dns": "dns"}


def records_of(answer: object) -> list[EgressRecord]:
    """Return the log that Tumbler's own server answers with; empty for any other answer."""
    if not isinstance(answer, list):
        return []
    return [_record(each) for each in answer if isinstance(each, dict)]


def _record(each: Mapping[str, object]) -> EgressRecord:
    host, trajectory = each.get("host"), each.get("trajectory")
    return EgressRecord(
        time=float(str(each["time"])),
        sandbox=str(each["sandbox"]),
        trajectory=str(trajectory) if trajectory is not None else None,
        protocol=_PROTOCOLS.get(str(each["protocol"]), "other"),
        host=str(host) if host is not None else None,
        address=str(each["address"]),
        port=int(str(each["port"])),
        allowed=bool(each["allowed"]),
        reason=str(each["reason"]),
        sent=int(str(each["sent"])),
        received=int(str(each["received"])),
    )
