"""What the kernel enforces: cgroups, the seccomp filter, freezing."""
