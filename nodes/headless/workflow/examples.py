"""Example workflows that come with the package."""

from pathlib import Path

DEFAULT = "text_to_image"


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
    """
    if name is None:
        return folder() / f"{DEFAULT}.json"
    path = Path(name)
    return folder() / f"{name}.json" if not path.exists() and name in names() else path
