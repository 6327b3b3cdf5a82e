"""The command `wuerstchen`: its options, its verbs, and what each of them prints."""

from .main import main

__all__ = ["main"]
