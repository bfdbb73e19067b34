"""The backend `remote`: sandboxes of a Tumbler sandbox service on another machine."""
