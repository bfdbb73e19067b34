"""The sandbox backend over E2B: its cloud, or any server that speaks its protocol."""
