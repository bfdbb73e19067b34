"""The parts of `tumbler agent`: model, place, conversation, screen."""
