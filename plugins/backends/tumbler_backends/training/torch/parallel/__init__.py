"""How one trainer works with those of other processes."""
