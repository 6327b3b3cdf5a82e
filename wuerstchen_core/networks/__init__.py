"""The three networks, the blocks that they share, and the code that makes them fast."""
