"""Find the files of a preset, a path or a hub repository on this machine, and download them on request.

Only this module downloads. Needs no torch.
"""

# huggingface_hub types its functions only in part
# pyright: reportUnknownVariableType=false

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..errors import CheckpointError, WeightsMissingError
from ..files.places import expanded
from .components import COMPONENTS, TOKENIZER_FOLDER, Component
from .layouts import (
    CONFIG_FILE,
    TEXT_KINDS,
    WEIGHT_KINDS,
    StageFiles,
    TextEncoderFiles,
    cannot_read,
    check_file,
    existing,
    find_stage,
    find_text_encoder,
)
from .presets import PRESETS, Place, preset

Files = TypeVar("Files", StageFiles, TextEncoderFiles)

MODELS_VARIABLE = "WUERSTCHEN_MODELS"
"""Environment variable that names the folder of downloaded models."""
_LONGEST_NAME = 300
"""Most characters of the name of a hub's file, and of a name in a message."""
_HUB_SOURCE = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:/(?P<inside>[\w./-]+))?")


@dataclass(frozen=True)
class Presence:
    """Presence of a preset's part on this machine.

    Attributes:
        part: Name of the part.
        place: Repository and folder it comes from.
        path: Folder on this machine; None if it is missing.
        files: Every file that loading reads; none if it is missing.
    """

    part: str
    place: Place
    path: Path | None
    files: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Size of its files in bytes; 0 if it is missing."""
        return sum(path.stat().st_size for path in self.files)


def models_folder() -> Path:
    """Return the folder of downloaded models: $WUERSTCHEN_MODELS, else `wuerstchen` in the user's cache folder."""
    chosen = os.environ.get(MODELS_VARIABLE)
    if chosen:
        return expanded(chosen)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "wuerstchen"


def locate(source: str | Path, part: str, *, download: bool = False) -> StageFiles | TextEncoderFiles:
    """Find the files of a part.

    Args:
        source: A preset's name, a file, a folder, or a hub repository ("owner/name", or a file or folder in it).
        part: Name of the part, as in `components.COMPONENTS`.
        download: Download files that are not on this machine.
    Raises:
        WeightsMissingError: A file is not on this machine, or could not be downloaded.
        CheckpointError: An index of shards is damaged.
    """
    component = COMPONENTS[part]
    find = locate_text_encoder if component.is_text_encoder else locate_stage
    return find(source, component, download=download)


def locate_stage(source: str | Path, component: Component, *, download: bool = False) -> StageFiles:
    """Find the files of a stage or an image encoder. Arguments and errors as for `locate`."""
    return _locate(source, component, partial(find_stage, component=component), download)


def locate_text_encoder(source: str | Path, component: Component, *, download: bool = False) -> TextEncoderFiles:
    """Find the files of a text encoder and its tokenizer. Arguments and errors as for `locate`."""
    return _locate(source, component, find_text_encoder, download)


def presence(name: str) -> list[Presence]:
    """List the parts of a preset with their paths and sizes on this machine.

    Raises:
        InputError: There is no such preset.
    """
    found: list[Presence] = []
    for part, place in preset(name).items():
        try:
            found.append(_present(part, place, locate(name, part)))
        except (WeightsMissingError, OSError):
            found.append(Presence(part, place, None))
    return found


def download_size(name: str) -> int:
    """Return the bytes that `download_preset` would download, as the hub lists them.

    Raises:
        InputError: There is no such preset.
        WeightsMissingError: The hub cannot be asked.
    """
    files: dict[tuple[str, str], int] = {}
    for part in presence(name):
        repo = part.place.repo
        if part.path is None and repo is not None:
            patterns = _patterns(part.place.folder, COMPONENTS[part.part])[0]
            with _without_bars():
                listed = _snapshot(repo, patterns, models_folder() / repo, dry_run=True)
            files |= {(repo, file.filename): file.file_size for file in listed if file.will_download}
    return sum(files.values())


def download_preset(name: str) -> Iterator[Presence]:
    """Download the missing parts of a preset.

    Yields:
        Presence: Each part, as soon as it is on this machine.
    Raises:
        InputError: There is no such preset.
        WeightsMissingError: A part could not be downloaded or written.
    """
    for part, place in preset(name).items():
        yield _present(part, place, locate(name, part, download=True))


def _present(part: str, place: Place, files: StageFiles | TextEncoderFiles) -> Presence:
    return Presence(part, place, files.source, files.paths)


def _locate(source: str | Path, component: Component, find: Callable[[Path], Files], download: bool) -> Files:
    if isinstance(source, str) and source in PRESETS:
        place = PRESETS[source][component.part]
        if place.repo is None:
            return _packaged(place, find)
        if place.otherwise is not None and _on_this_machine(place.repo, place.folder, find)[0] is None:
            there, _ = _on_this_machine(place.otherwise.repo or "", place.otherwise.folder, find)
            if there is not None:
                return there
        advice = f"Run `wuerstchen download {source}`, or pass download=True to the loader."
        return _from_hub(place.repo, place.folder, component, find, download, advice)
    path = existing(source)
    if path is not None:
        return _found(path, find)
    hub = _HUB_SOURCE.fullmatch(source) if isinstance(source, str) and len(source) <= _LONGEST_NAME else None
    if hub is None or ".." in str(source):
        raise WeightsMissingError(
            f"{str(source)[:_LONGEST_NAME]!r} does not exist; expected a file, a folder, a hub repository (owner/name) "
            f"or one of {', '.join(PRESETS)}. Check the path."
        )
    advice = "Pass download=True to the loader."
    return _from_hub(hub["repo"], hub["inside"] or "", component, find, download, advice)


def _found(path: Path, find: Callable[[Path], Files]) -> Files:
    """Return the files at a path, all of which are regular files."""
    try:
        files = find(path)
        for each in files.paths:
            check_file(each)
        return files
    except OSError as error:
        raise cannot_read(path, error) from error


def _find_complete(path: Path, find: Callable[[Path], Files]) -> Files | None:
    """Return the files at a path, or None if one of them is missing or damaged."""
    try:
        return _found(path, find) if os.path.exists(path) else None
    except CheckpointError:
        return None


def _packaged(place: Place, find: Callable[[Path], Files]) -> Files:
    path = Path(__file__).parents[1] / "cocktail" / place.folder
    files = _find_complete(path, find)
    if files is None:
        raise WeightsMissingError(
            f"{path} is missing or incomplete, though it comes with the package. Reinstall the package."
        )
    return files


def _from_hub(
    repo: str, inside: str, component: Component, find: Callable[[Path], Files], download: bool, advice: str
) -> Files:
    """Find a part of a repository in the model folder, then in the hub's cache; then download it if asked to."""
    target = models_folder() / repo
    files, looked = _on_this_machine(repo, inside, find)
    if files is not None:
        return files
    if not download:
        raise WeightsMissingError(
            f"{'/'.join(filter(None, (repo, inside)))} is not on this machine (looked in "
            f"{', '.join(str(path) for path in looked)}). {advice}"
        )
    for patterns in _patterns(inside, component):
        _snapshot(repo, patterns, target)
        files = _find_complete(target / inside, find)
        if files is not None:
            return files
    raise WeightsMissingError(
        f"{repo} has no {component.folder}{f' in {inside}' if inside else ''} that could be downloaded to {target}. "
        "Check the name."
    )


def _on_this_machine(repo: str, inside: str, find: Callable[[Path], Files]) -> tuple[Files | None, list[Path]]:
    """Return a part of a repository in the model folder or in the hub's cache, and the paths that were looked at."""
    looked = [models_folder() / repo / inside]
    files = _find_complete(looked[0], find)
    if files is None and (cached := _hub_cache(repo)) is not None:
        looked.append(cached / inside)
        files = _find_complete(looked[1], find)
    return files, looked


def _hub_cache(repo: str) -> Path | None:
    """Return the repository's folder in the cache that Hugging Face programs share, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, RuntimeError):  # RuntimeError: HF_HOME is of no user
        return None


def _snapshot(repo: str, patterns: list[str], target: Path, *, dry_run: bool = False) -> Any:
    """Download the files of a repository that match one of the patterns, or only list them."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(repo, local_dir=target, allow_patterns=patterns, dry_run=dry_run)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise WeightsMissingError(
            f"{repo} could not be downloaded to {target}: {reason}. "
            "Check the connection, the name, and that the folder can be written; "
            "or copy the repository's files there by other means."
        ) from error


@contextmanager
def _without_bars() -> Generator[None]:
    """Hide the progress bars of huggingface_hub."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _patterns(inside: str, component: Component) -> list[list[str]]:
    """Return the file patterns of each download to try: safetensors first, then .bin files."""
    if Path(inside).suffix:  # one file, not a folder
        return [[inside]]
    prefix = inside + "/" if inside else ""
    folders = [prefix, f"{prefix}{component.folder}/"]
    kinds, others = WEIGHT_KINDS, (CONFIG_FILE,)
    if component.is_text_encoder:
        folders.append(f"{prefix}{TOKENIZER_FOLDER}/")
        kinds, others = TEXT_KINDS, ("*.json", "merges.txt")
    kinds = [(*others, *names, f"*-of-*{Path(names[0]).suffix}") for names in kinds]
    return [[folder + name for folder in folders for name in kind] for kind in kinds]
