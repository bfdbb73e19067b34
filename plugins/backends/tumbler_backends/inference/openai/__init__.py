"""A model behind OpenAI's API as the policy of a run."""
