"""Example workflows that come with the package."""

from pathlib import Path

from ..errors import UsageError, did_you_mean

DEFAULT = "text_to_image"
_SUFFIXES = frozenset({".json", ".png"})
"""Suffixes of files that may hold a workflow."""


def folder() -> Path:
    """Return the folder of the examples: inside an installed package, or beside `nodes/` in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "workflows"
    return installed if installed.is_dir() else package.parent / "workflows"


def names() -> list[str]:
    """List the names of the examples, as `locate` takes them."""
    return sorted(path.stem for path in folder().glob("*.json"))


def locate(name: str | None) -> Path:
    """Return the path of a workflow: the file of that name, else the example of that name.

    Args:
        name: Path or name of an example; None for the default example.
    Raises:
        UsageError: There is neither, but a file or an example of a similar name.
    """
    if name is None:
        return folder() / f"{DEFAULT}.json"
    path = Path(name)
    if not path.exists():
        if name in names():
            return folder() / f"{name}.json"
        hint = did_you_mean(path.name, _beside(path)) or did_you_mean(path.stem, names())
        if hint:
            raise UsageError(f"{name} does not exist; expected a workflow file or the name of an example. {hint}")
    return path


def _beside(path: Path) -> list[str]:
    """List the names of the workflow files in the folder of a path."""
    try:
        return sorted(each.name for each in path.parent.iterdir() if each.suffix.lower() in _SUFFIXES)
    except (OSError, ValueError):
        return []
