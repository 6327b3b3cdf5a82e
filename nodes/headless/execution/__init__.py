"""Execute a validated workflow in this process, and cache what its nodes return."""
