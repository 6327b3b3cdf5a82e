"""Names of finished files: inside the output folder, and still free."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from wuerstchen_core.errors import InputError


def numbered_path(folder: Path, prefix: str) -> Path:
    """Return the first free `<prefix>_00001_`, `<prefix>_00002_`, ... inside `folder`. Makes the folders above it.

    Args:
        folder: Folder that the path may not leave.
        prefix: A name, or several joined by slashes for subfolders.
    Raises:
        InputError: The prefix is not a name, leaves the folder (by itself or through a link), or its folders cannot be
            made.
    """
    path = PurePosixPath(prefix.replace("\\", "/"))
    if (
        not path.name
        or prefix.endswith(("/", "\\"))
        or path.is_absolute()
        or PureWindowsPath(prefix).drive
        or ".." in path.parts
        or not prefix.isprintable()
    ):
        raise InputError(
            f"filename_prefix is {prefix!r}; expected a name such as 'stage_c' or 'mixes/stage_c', which stays inside "
            f"the output folder {folder}."
        )
    parent = folder / path.parent
    if not parent.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"filename_prefix is {prefix!r}, which a link leads to {parent.resolve()}, outside of the output folder "
            f"{folder}. Choose another name."
        )
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = {each.name for each in parent.iterdir()}
    except OSError as error:
        raise InputError(
            f"Cannot write to {parent} ({error.strerror}). Choose another name or output folder."
        ) from error
    number = 1
    while f"{path.name}_{number:05}_" in taken:
        number += 1
    return parent / f"{path.name}_{number:05}_"
