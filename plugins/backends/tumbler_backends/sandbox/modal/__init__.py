"""Sandboxes on Modal, through its own client; needs the extra `modal`."""
