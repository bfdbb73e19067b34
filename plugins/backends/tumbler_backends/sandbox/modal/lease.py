"""The main process of a sandbox: it ends when the time to live is over, whoever is left to care; starts nothing.

Modal fixes a sandbox's longest life when it is made, and ends it with its main process. So that a life can be made
longer and shorter, the longest life is the setting's, and the main process waits for the lease to run out. It runs as
the image's root, and its pipe is closed to others: an unprivileged command cannot extend the lease.
"""

from typing import Final

__all__ = ["ENDED", "LEASE_PIPE", "extension_words", "lease_words"]

LEASE_PIPE: Final = "/tmp/.tumbler-lease"
ENDED: Final = 75
"""The exit code of a lease that ran out."""

_LEASE: Final = (
    'rm -rf -- "$1"; mkfifo -m 600 -- "$1" || exit 1; exec 3<>"$1"; '
    # What is not a number ends the lease, too: nobody but the owner has the pipe.
    f'seconds=$2; while IFS= read -r -t "$seconds" next <&3; do seconds=$next; done; exit {ENDED}'
)


def lease_words(ttl: float) -> list[str]:
    """Return the main process of a sandbox that lives `ttl` seconds."""
    return ["bash", "-c", _LEASE, "bash", LEASE_PIPE, f"{ttl:.3f}"]


def extension_words(ttl: float) -> list[str]:
    """Return the command that sets the lease to `ttl` seconds from now on."""
    return ["sh", "-c", 'printf "%s\\n" "$2" >"$1"', "sh", LEASE_PIPE, f"{ttl:.3f}"]
