"""`wuerstchen completion SHELL`: a script that completes verbs, options and file names."""

import argparse

import shtab

_FILES, _FOLDERS = frozenset({"workflow", "out", "grid"}), frozenset({"cache"})


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script of bash, zsh or fish."""
    _mark_paths(parser)
    return shtab.complete(parser, shell)


def _mark_paths(parser: argparse.ArgumentParser) -> None:
    """Mark the options that take a path."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _mark_paths(verb)
        elif action.dest in _FILES:
            setattr(action, "complete", shtab.FILE)  # noqa: B010 - an attribute that shtab looks for
        elif action.dest in _FOLDERS:
            setattr(action, "complete", shtab.DIRECTORY)  # noqa: B010
