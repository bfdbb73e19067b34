"""Network namespaces, and the one door out of them: an allow-list gateway for the backends of this machine."""
