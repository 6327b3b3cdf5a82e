"""Example workflows that come with the package.

Their files begin with "wuerstchen_", by which the template browser of ComfyUI finds them. In the shell an example goes
by its short name, without that.
"""

import os
from pathlib import Path

from ..errors import UsageError, did_you_mean

DEFAULT = "text_to_image"
PREFIX = "wuerstchen_"
"""Beginning of every example's file name."""
_SUFFIXES = frozenset({".json", ".png"})
"""Suffixes of files that may hold a workflow."""


def folder() -> Path:
    """Return the folder of the examples: inside an installed package, or beside `nodes/` in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "workflows"
    return installed if installed.is_dir() else package.parent / "workflows"


def names() -> list[str]:
    """List the short names of the examples, such as "text_to_image"."""
    return sorted(path.stem.removeprefix(PREFIX) for path in folder().glob("*.json"))


def locate(name: str | os.PathLike[str] | None) -> Path:
    """Return the path of a workflow: the file of that name, else the example of that name.

    An example is found by its short name, its file name, or a path to either in a folder `workflows`, as examples were
    named before they began with "wuerstchen_".

    Args:
        name: Path or name of an example; None for the default example.
    Raises:
        UsageError: There is neither, but a file or an example of a similar name.
    """
    path = Path(DEFAULT if name is None else name)
    if name is not None and os.path.exists(path):  # also where the text cannot be a path
        return path
    if path.suffix in ("", ".json") and path.parent.name in ("", "workflows"):
        example = path.stem.removeprefix(PREFIX)
        if example in names():
            return folder() / f"{PREFIX}{example}.json"
    hint = did_you_mean(path.name, _beside(path)) or did_you_mean(path.stem, names())
    if hint:
        raise UsageError(f"{path} does not exist; expected a workflow file or the name of an example. {hint}")
    return path


def _beside(path: Path) -> list[str]:
    """List the names of the workflow files in the folder of a path."""
    try:
        return sorted(each.name for each in path.parent.iterdir() if each.suffix.lower() in _SUFFIXES)
    except (OSError, ValueError):
        return []
