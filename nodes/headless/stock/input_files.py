"""Files that Load nodes read: by their path, or by their name in the host's input folders."""

import os
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import InputError
from wuerstchen_core.files.untrusted import check_size

from ..host import HeadlessHost, current


def find_input(name: str) -> Path:
    """Return the path of the file that a Load node names.

    Raises:
        InputError: There is no such file.
    """
    host = current()
    path = local_file(name, host)
    if path is None:
        looked = ", ".join(str(folder.absolute()) for folder in _folders(name, host))
        raise InputError(
            f"There is no file {_plain(name)!r}; looked in {looked}. Put it there, or give its whole path."
        )
    return path


def local_file(name: str, host: HeadlessHost) -> Path | None:
    """Return the path of the file that a Load node names, or None."""
    return next((path for folder in _folders(name, host) if os.path.isfile(path := folder / _plain(name))), None)


def explain_missing(name: Any, most: int) -> bool | str:
    """Return the answer of VALIDATE_INPUTS for an input file of at most `most` bytes: True, or the error."""
    if name is None:  # linked
        return True
    try:
        check_size(find_input(str(name)), most)
    except (InputError, ValueError) as error:
        return str(error)
    except OSError as error:  # a name that no file can have, or a file that is too large
        return f"{str(name)[:60]!r} cannot be opened: {error.strerror or error}."
    return True


def names_of_inputs(suffixes: frozenset[str]) -> list[str]:
    """List the names of the files in the input folders with one of the suffixes."""
    folders = [folder for folder in current().input_folders if folder.is_dir()]
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.suffix.lower() in suffixes})


def _plain(name: str) -> str:
    return name.removesuffix(" [input]").removesuffix(" [output]").removesuffix(" [temp]")


def _folders(name: str, host: HeadlessHost) -> list[Path]:
    return [host.output_folder()] if name.endswith(" [output]") else host.input_folders
