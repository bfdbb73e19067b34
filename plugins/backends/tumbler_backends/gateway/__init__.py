"""The model gateway: chat APIs in front of a recorded policy."""
