"""The three networks, the blocks that they are built from, and how those compute fast."""
