"""The example workflows that come with the package."""

from pathlib import Path

DEFAULT = "text_to_image"


def folder() -> Path:
    """Where the examples are: beside the nodes in an installed package, beside their folder in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "workflows"
    return installed if installed.is_dir() else package.parent / "workflows"


def names() -> list[str]:
    """The examples, as `locate` takes them."""
    return sorted(path.stem for path in folder().glob("*.json"))


def locate(name: str | None) -> Path:
    """A workflow's path: the file of that name, else the example of that name; the default example for None."""
    if name is None:
        return folder() / f"{DEFAULT}.json"
    path = Path(name)
    return folder() / f"{name}.json" if not path.exists() and name in names() else path
