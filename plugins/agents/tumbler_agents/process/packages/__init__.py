"""Programs of package registries, installed once into a folder that sandboxes then see read-only."""
