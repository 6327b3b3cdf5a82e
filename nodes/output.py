"""Names of finished files: inside the output folder, and still free."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from wuerstchen_core.errors import InputError

from .shown import shown

LONGEST_NAME = 200
"""Most bytes of a name: file systems take 255, and a number or a suffix is added."""
MOST_FOLDERS = 16
"""Most folders in one another."""
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{kind}{number}" for kind in ("COM", "LPT") for number in "0123456789¹²³")}
"""Names that stand for a device on Windows, with any suffix."""


def numbered_path(folder: Path, prefix: str) -> Path:
    """Return the first free `<prefix>_00001_`, `<prefix>_00002_`, ... inside `folder`. Makes the folders above it.

    Args:
        folder: Folder that the path may not leave.
        prefix: A name, or several joined by slashes for subfolders.
    Raises:
        InputError: The prefix is not a name that every system can hold, leaves the folder (by itself or through a
            link), or its folders cannot be made.
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
            f"filename_prefix is {shown(prefix)}; expected a name such as 'stage_c' or 'mixes/stage_c', which stays "
            f"inside the output folder {folder}."
        )
    if len(path.parts) > MOST_FOLDERS or not all(map(_is_portable, path.parts)):
        raise InputError(
            f"filename_prefix is {shown(prefix)}; expected names of at most {LONGEST_NAME} bytes without a colon, a "
            f"dot or a space at the end, which are no devices of Windows such as CON, and at most {MOST_FOLDERS}."
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
            f"Cannot write to {parent} ({error.strerror}), for the filename_prefix {shown(prefix)}. Choose another "
            "name or output folder."
        ) from error
    number = 1
    while f"{path.name}_{number:05}_" in taken:
        number += 1
    return parent / f"{path.name}_{number:05}_"


def _is_portable(name: str) -> bool:
    """Return whether a name is one on every system, and the same one."""
    is_device = name.partition(".")[0].rstrip().upper() in _DEVICES
    return not (is_device or ":" in name or name.endswith((".", " ")) or len(name.encode()) > LONGEST_NAME)
