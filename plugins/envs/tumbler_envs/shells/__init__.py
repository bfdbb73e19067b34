"""What environments with a shell share."""
