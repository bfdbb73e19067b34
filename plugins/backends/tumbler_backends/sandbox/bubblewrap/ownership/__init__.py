"""Who owns which sandboxes, and removing those of dead owners."""
