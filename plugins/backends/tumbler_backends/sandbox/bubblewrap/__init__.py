"""The embedded sandbox backend: bubblewrap, namespaces, seccomp and cgroups; no daemon and no image."""
