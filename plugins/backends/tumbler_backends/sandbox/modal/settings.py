"""The settings of the modal backend."""

from pydantic import Field

from tumbler.config import Settings
from tumbler.contracts.sandbox import IsolationTier

__all__ = ["ModalSettings"]


class ModalSettings(Settings):
    """Where on Modal sandboxes run, and what they start from.

    Credentials are none of the settings: they come from `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET`, or from
    `~/.modal.toml`, which `modal token new` writes.
    """

    app: str = "tumbler"
    """The Modal app that the sandboxes belong to; it is made where it is missing."""
    environment: str | None = None
    """The Modal environment; None is the one of Modal's own configuration."""
    image: str | None = None
    """The image of sandboxes whose spec names none, such as `python:3.12-slim`; None is Modal's Debian with Python. An
    image needs a shell, bash, coreutils, GNU find, grep, awk, and util-linux's setpriv for an unprivileged user."""
    setup: tuple[str, ...] = ()
    """Dockerfile commands put on top of every image, such as `RUN apt-get install -y git`."""
    region: str | None = None
    """Where sandboxes run, such as `eu`; None lets Modal choose, which costs less."""
    cloud: str | None = None
    """Whose machines they run on: `aws`, `gcp` or `oci`; None lets Modal choose."""
    tier: IsolationTier = "gvisor"
    """How strongly the service separates sandboxes. Modal runs gVisor; say less for a server that does not."""
    ports: tuple[int, ...] = ()
    """Ports that `expose` can be asked for; Modal must know them when a sandbox is made."""
    encrypted_ports: bool = True
    """Whether exposed ports speak TLS at Modal's edge, with HTTPS URLs; otherwise they are plain TCP."""
    unlogged_allowlists: bool = False
    """Whether to accept allow-lists, which Modal enforces but keeps no log of: `egress` stays empty."""
    max_lifetime: float = Field(default=86400.0, gt=0)
    """Seconds after which Modal ends a sandbox whatever happens; no time to live can be longer. Modal allows a day."""
    user_id: int = Field(default=1000, gt=0)
    """The user and group number that commands run as where the spec names no user."""
    owner: str | None = None
    """A name under which a later process finds these sandboxes again. Without one they are removed as soon as another
    process on this machine sees that this one is dead."""
    grace: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM and SIGKILL when a command passes its time-out."""
    request_timeout: float = Field(default=60.0, gt=0)
    """Seconds that one call to Modal may take, the building of images not counted."""
    image_timeout: float = Field(default=1800.0, gt=0)
    """Seconds that building an image may take, when it is used for the first time."""
    pulse: float = Field(default=5.0, gt=0)
    """Seconds between looks at whether a sandbox with a running process still lives."""
    patience: float = Field(default=30.0, gt=0)
    """Seconds without an answer after which a running process counts as lost."""
