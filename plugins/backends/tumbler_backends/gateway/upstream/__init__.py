"""Models that servers of OpenAI's chat API offer, as a `ChatModel`."""
