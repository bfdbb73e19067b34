"""The tools that scaffolds give a policy: what each is, those over a sandbox, and those of MCP servers."""
