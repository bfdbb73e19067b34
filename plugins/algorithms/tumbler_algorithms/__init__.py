"""First-party algorithms, one subpackage each; none imports another, so that each reads alone."""
