"""Finished files: written whole or not at all, never over another file, never outside of the output folder."""

import os
import re
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from string import Formatter

from wuerstchen_core.errors import InputError, WuerstchenError
from wuerstchen_core.files.writing import write_new

from .errors import UsageError

DEFAULT_FOLDER = "output"
FIELDS = ("prefix", "index", "node")
"""Fields of a pattern of names."""
INDEX_FORMAT = re.compile(r"0?([1-9]|1\d|20)")
"""Formats of the field {index}: a width of up to 20, after a 0 for zeros in front."""
_LONGEST_NAME = 255
"""Most characters of a name on any file system."""
_CONTROL = re.compile(r"[\x01-\x1f\x7f]")
_OTHER_IMAGES = frozenset({".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})


class OutputFiles:
    """Names and writes the files of a run. No file is ever overwritten.

    Attributes:
        folder: Folder that no file leaves.
        pattern: Pattern of names below the folder; None for ComfyUI's own names.

    Args:
        out: A folder, in which files are named as ComfyUI names them (`prefix_00001_.png`); or a pattern that ends
            in .png, with the fields {prefix} (of the node that saves), {index} (1, 2, ...; takes a format such as
            {index:05}) and {node} (id of that node). A pattern without {index} names a second image `name_2.png`.
    Raises:
        UsageError: The pattern is damaged, or ends in another image format.
    """

    def __init__(self, out: str | os.PathLike[str] = DEFAULT_FOLDER) -> None:
        text = os.fspath(out)
        suffix = Path(text).suffix.lower()
        if suffix in _OTHER_IMAGES:
            raise UsageError(
                f"--out is {text!r}; pictures are saved as PNG only. Let it end in .png, or name a folder."
            )
        if not text.strip() or Path(text).name.lower() == ".png":
            raise UsageError(f"--out is {text!r}, which names nothing; expected a folder, or a name such as 'x.png'.")
        self.pattern: str | None = None
        self.folder = Path(text)
        if suffix == ".png":
            _check_pattern(text)
            parts = Path(text).parts
            varying = next((i for i, part in enumerate(parts) if "{" in part), len(parts) - 1)
            self.folder = Path(*parts[:varying])
            self.pattern = Path(*parts[varying:]).as_posix()

    def check(self) -> None:
        """Check that files can be written, before any work is done. Leaves nothing behind.

        Raises:
            WuerstchenError: The folder is a file, or may not be written to.
        """
        name = "" if self.pattern is None else next(self._names("", "", ".png"))
        problem = why_not_writable(self.folder, name)
        if problem:
            raise WuerstchenError(
                f"Cannot write to the output folder {self.folder}: {problem}. Choose another one with --out, or "
                "change its permissions."
            )

    def save(self, data: bytes, prefix: str, *, node_id: str = "", suffix: str = ".png") -> Path:
        """Write a new file and return its path.

        Args:
            data: Content of the file.
            prefix: A name, or several joined by slashes for subfolders.
            node_id: Id of the node that saves.
            suffix: Suffix of the file, also in place of a pattern's .png.
        Raises:
            InputError: The name leads out of the output folder, or cannot be written.
        """
        path = self.folder
        try:
            for name in self._names(prefix, node_id, suffix):
                path = self.folder / name
                if not path.resolve().is_relative_to(self.folder.resolve()) or not PurePosixPath(name).name:
                    raise InputError(
                        f"filename_prefix is {prefix!r}, which leads out of the output folder {self.folder}; "
                        "expected a name such as 'heart' or 'hearts/red'. Change it in the node that saves."
                    )
                if write_new(path, data):
                    return path
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that lead to themselves
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"Cannot write {path}: {reason}. Choose another place or name with --out.") from error
        raise AssertionError("names never end")

    def reference(self, path: Path) -> dict[str, str]:
        """Return {"filename", "subfolder"} of a saved file, as ComfyUI's events name it."""
        folder = path.parent.relative_to(self.folder)
        return {"filename": path.name, "subfolder": "" if folder == Path() else folder.as_posix()}

    def _names(self, prefix: str, node_id: str, suffix: str) -> Iterator[str]:
        prefix = _CONTROL.sub("_", prefix.replace("\\", "/"))
        if self.pattern is None:
            parent, _, stem = prefix.rpartition("/")
            start = _highest(self.folder / parent, stem, suffix) + 1
            return (f"{prefix}_{index:05}_{suffix}" for index in count(start))
        named = self.pattern[: -len(".png")]
        names = (named.format(prefix=prefix, index=index, node=node_id.replace(":", "-")) for index in count(1))
        if "{index" in named:
            return (name + suffix for name in names)
        return (name + ("" if index == 1 else f"_{index}") + suffix for index, name in enumerate(names, 1))


def why_not_writable(folder: Path, name: str = "") -> str:
    """Return why a file cannot be written, or an empty text. Leaves nothing behind.

    Args:
        folder: Its folder, which may be missing.
        name: Its name; empty where that is not known.
    """
    existing = folder
    try:
        folder = folder.absolute()
        existing = next(path for path in (folder, *folder.parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=existing):
            pass
        _is_there(folder / name)
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'strerror', None) or error} ({existing})"
    return ""


def _is_there(path: Path) -> bool:
    """Return whether something has a name, be it a link to nothing. Raises OSError: nothing can have it."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _highest(folder: Path, stem: str, suffix: str) -> int:
    """Return the highest number in use among `stem_00001_.png`, or 0."""
    if len(stem) > _LONGEST_NAME:
        return 0
    pattern = re.compile(re.escape(stem) + r"_(\d+)_.*" + re.escape(suffix))
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return max((int(match[1]) for name in names if (match := pattern.fullmatch(name))), default=0)


def _check_pattern(text: str) -> None:
    """Check that a pattern has known fields only, and no format but the width of {index}: any other may be huge."""
    problem = ""
    try:
        for _, field, form, conversion in Formatter().parse(text):
            if field is None:
                continue
            if field not in FIELDS or conversion:
                problem = f"it has the field {{{field}}}"
            elif form and (field != "index" or not INDEX_FORMAT.fullmatch(form)):
                problem = f"{{{field}}} has the format {form!r}"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise UsageError(
            f"--out is {text!r}: {problem}. Expected a path with {{prefix}}, {{index}} and {{node}} at most, such as "
            "'out/{prefix}_{index:05}.png'."
        )
