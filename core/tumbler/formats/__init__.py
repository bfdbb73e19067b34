"""Trajectories in the formats of others: ATIF both ways, ChatML and ShareGPT for supervised fine-tuning."""

from tumbler.formats.atif_export import trajectory_to_atif
from tumbler.formats.atif_import import trajectory_from_atif
from tumbler.formats.conversations import Conversation, Turn, finished, to_chatml, to_conversations, to_sharegpt

__all__ = [
    "Conversation",
    "Turn",
    "finished",
    "to_chatml",
    "to_conversations",
    "to_sharegpt",
    "trajectory_from_atif",
    "trajectory_to_atif",
]
