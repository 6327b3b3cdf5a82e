"""Find, download, read, check and save checkpoints."""
