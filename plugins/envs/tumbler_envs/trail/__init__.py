"""The environment `trail`: an answer that lies behind a chain of dependent steps in a shell."""
