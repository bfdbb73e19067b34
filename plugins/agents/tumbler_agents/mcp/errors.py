"""What goes wrong with a server before any call could be answered."""

from tumbler.errors import EpisodeError

__all__ = ["McpServerError"]


class McpServerError(EpisodeError):
    """A server of the Model Context Protocol could not be started or does not offer what the settings name."""

    infra = True
