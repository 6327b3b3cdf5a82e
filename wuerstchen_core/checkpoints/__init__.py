"""Checkpoints on disk: find, download, read, check, load and save them."""
