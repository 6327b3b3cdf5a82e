"""Fixtures that every test of this folder shares."""

from support.fixtures import calls, host, inline, log_folder

__all__ = ["calls", "host", "inline", "log_folder"]
