"""The inference backend `scripted`: replies by rules, for trying environments, agents and verifiers without a model."""
