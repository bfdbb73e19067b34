"""The sandbox service: any backend behind HTTP, for several tenants."""
