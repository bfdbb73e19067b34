"""One sandbox's side of the egress log: fills in who and when."""

import time
from typing import Literal

from tumbler.contracts.sandbox_control import EgressRecord
from tumbler_backends.sandbox.egress.egress_log import EgressLog
from tumbler_backends.sandbox.egress.policy import Decision

__all__ = ["Entry", "Ledger"]


class Entry:
    """A connection's record, from its first decision to its end."""

    def __init__(self, log: EgressLog, record: EgressRecord) -> None:
        """Log the record."""
        self._log = log
        self._record = record
        self._number = log.add(record)

    def finish(self, sent: int, received: int) -> None:
        """Log the end."""
        self._log.finish(self._number, self._record, sent, received)


class Ledger:
    """Writes the records of one sandbox."""

    def __init__(self, log: EgressLog, sandbox: str, trajectory: str | None) -> None:
        """Write to `log` for a sandbox and the value of its label `trajectory`."""
        self._log = log
        self._sandbox = sandbox
        self._trajectory = trajectory

    def enter(
        self,
        protocol: Literal["tcp", "udp", "dns", "other"],
        address: str,
        port: int,
        decision: Decision,
        *,
        host: str | None = None,
    ) -> Entry:
        """Record a decision about an attempt to reach `port` of `address`."""
        record = EgressRecord(
            time=time.time(),
            sandbox=self._sandbox,
            trajectory=self._trajectory,
            protocol=protocol,
            host=host,
            address=address,
            port=port,
            allowed=decision.allowed,
            reason=decision.reason,
        )
        return Entry(self._log, record)
