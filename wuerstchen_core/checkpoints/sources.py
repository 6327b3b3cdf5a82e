"""From what a user names (a preset, a path, a hub repository) to files on this machine. Only here is downloaded."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, WeightsMissingError
from .layouts import CONFIG_FILE, WEIGHT_KINDS, WEIGHTS_NAME, files_of
from .presets import PRESETS, Place, preset

FOLDER_OF = {"C": "prior", "B": "decoder", "A": "vqgan"}
"""A stage's folder in a diffusers pipeline."""

TEXT_FOLDERS = ("text_encoder", "tokenizer")
_TEXT_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.fp16.safetensors")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")

_HUB_SOURCE = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:/(?P<inside>[\w./-]+))?")


@dataclass(frozen=True)
class Presence:
    """Whether a preset's part is on this machine.

    part: "C", "B", "A", "text_encoder_c" or "text_encoder_b". path: where it is, None where it is not. size: in bytes.
    """

    part: str
    place: Place
    path: Path | None
    size: int


def models_folder() -> Path:
    """Where downloads go and where they are looked for: $WUERSTCHEN_MODELS, else `wuerstchen` in the user's cache."""
    chosen = os.environ.get("WUERSTCHEN_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wuerstchen"


def locate(source: str | Path, part: str, *, download: bool = False) -> Path:
    """Where the files of a part are.

    Args:
        source: a preset's name, a file, a folder, or a hub repository ("owner/name", or a file or folder in it).
        part: "C", "B", "A", "text_encoder_c" or "text_encoder_b".
        download: fetch from the hub what is not on this machine.
    Returns:
        Path: a file or a folder; where it came from a preset or the hub, its files are there.
    Raises:
        WeightsMissingError: they are not on this machine, or could not be downloaded.
    """
    if isinstance(source, str) and source in PRESETS:
        place = PRESETS[source][part]
        if place.repo is None:
            return _packaged(place, part)
        return _from_hub(place.repo, place.folder, part, download, f"`wuerstchen download {source}`")
    path = Path(source).expanduser()
    if path.exists():
        return path
    hub = _HUB_SOURCE.fullmatch(str(source)) if isinstance(source, str) else None
    if hub is None or ".." in str(source):
        raise WeightsMissingError(
            f"{str(source)!r} does not exist; expected a file, a folder, a hub repository (owner/name) or one of "
            f"{', '.join(PRESETS)}. Check the path."
        )
    return _from_hub(hub["repo"], hub["inside"] or "", part, download, "the same with download switched on")


def part_files(source: str | Path, part: str) -> list[Path]:
    """Every file that loading a part reads.

    Args:
        source: a preset's name, a file, a folder, or a hub repository.
        part: "C", "B", "A", "text_encoder_c" or "text_encoder_b".
    Raises:
        WeightsMissingError: it is not on this machine.
    """
    return _files(locate(source, part), part)


def presence(name: str) -> list[Presence]:
    """What of a preset is on this machine, part by part.

    Raises:
        InputError: there is no such preset.
    """
    found = []
    for part, place in preset(name).items():
        try:
            path = locate(name, part)
            size = sum(file.stat().st_size for file in _files(path, part))
        except (WeightsMissingError, OSError):
            path, size = None, 0
        found.append(Presence(part, place, path, size))
    return found


def download_preset(name: str) -> Iterator[Presence]:
    """Fetch what is missing of a preset, part by part; yields each part once it is there.

    Raises:
        InputError: there is no such preset.
        WeightsMissingError: a part could not be downloaded, or the disk refused it.
    """
    for part, place in preset(name).items():
        path = locate(name, part, download=True)
        yield Presence(part, place, path, sum(file.stat().st_size for file in _files(path, part)))


def text_folders(path: Path) -> tuple[Path, Path]:
    """The folders of a text encoder and of its tokenizer, from a pipeline's folder or from the encoder's own.

    Raises:
        WeightsMissingError: one of them is not there.
    """
    encoder = path / TEXT_FOLDERS[0] if (path / TEXT_FOLDERS[0]).is_dir() else path
    if not encoder.is_dir() or not any((encoder / name).is_file() for name in _TEXT_WEIGHTS):
        raise WeightsMissingError(
            f"{path} is no text encoder: expected a folder with {_TEXT_WEIGHTS[0]} in it or in {TEXT_FOLDERS[0]}/. "
            "Choose the pipeline's folder or the text encoder's."
        )
    for folder in (encoder, encoder.parent / TEXT_FOLDERS[1]):
        if any((folder / name).is_file() for name in _TOKENIZER_FILES):
            return encoder, folder
    raise WeightsMissingError(
        f"{encoder} has no tokenizer: expected {' or '.join(_TOKENIZER_FILES)} in it or in {TEXT_FOLDERS[1]}/ beside "
        "it. Copy the tokenizer's folder there."
    )


def _files(path: Path, part: str) -> list[Path]:
    """Every file of a part. Raises WeightsMissingError where one that is needed is absent."""
    if part in FOLDER_OF:
        return files_of(path, FOLDER_OF[part])
    encoder, tokenizer = text_folders(path)
    weights = next(encoder / name for name in _TEXT_WEIGHTS if (encoder / name).is_file())
    return [weights, *sorted(file for file in {*tokenizer.iterdir(), encoder / CONFIG_FILE} if file.is_file())]


def _is_complete(path: Path, part: str) -> bool:
    try:
        return path.exists() and bool(_files(path, part))
    except CheckpointError:
        return False


def _packaged(place: Place, part: str) -> Path:
    path = Path(__file__).parents[1] / "cocktail" / place.folder
    if not _is_complete(path, part):
        raise WeightsMissingError(
            f"{path} is not there or not complete, though it comes with the package. Reinstall the package."
        )
    return path


def _from_hub(repo: str, inside: str, part: str, download: bool, how: str) -> Path:
    target = models_folder() / repo
    looked = [target / inside]
    if _is_complete(looked[0], part):
        return looked[0]
    cached = _hub_cache(repo)
    if cached is not None:
        looked.append(cached / inside)
        if _is_complete(looked[1], part):
            return looked[1]
    if not download:
        raise WeightsMissingError(
            f"{'/'.join(filter(None, (repo, inside)))} is not on this machine (looked in "
            f"{', '.join(str(path) for path in looked)}). Run {how}, or pass download=True to the loader."
        )
    _download(repo, inside, part, target)
    if not _is_complete(looked[0], part):
        raise WeightsMissingError(
            f"{repo} has no {FOLDER_OF.get(part, 'text encoder')} {'in ' + inside if inside else ''} that could be "
            f"downloaded to {target}. Check the name."
        )
    return looked[0]


def _hub_cache(repo: str) -> Path | None:
    """The repository's folder in the cache that other Hugging Face programs share, if it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _download(repo: str, inside: str, part: str, target: Path) -> None:
    """Fetch one part of a repository; safetensors where there are such, else .bin files."""
    from huggingface_hub import snapshot_download

    for patterns in _patterns(inside, part):
        try:
            snapshot_download(repo, local_dir=target, allow_patterns=patterns)
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WeightsMissingError(
                f"{repo} could not be downloaded to {target}: {reason}. "
                "Check the connection, the name, and that the folder can be written; "
                "or copy the repository's files there by other means."
            ) from error
        if _is_complete(target / inside, part):
            return


def _patterns(inside: str, part: str) -> list[list[str]]:
    """What to ask for, first try first."""
    if Path(inside).suffix:  # one file, not a folder
        return [[inside]]
    prefix = inside + "/" if inside else ""
    if part in FOLDER_OF:
        folders = [prefix, f"{prefix}{FOLDER_OF[part]}/"]
        shards = f"{WEIGHTS_NAME}*-of-*"
        kinds = [(CONFIG_FILE, *names, shards + Path(names[0]).suffix) for names in WEIGHT_KINDS]
    else:
        folders = [prefix, *(f"{prefix}{folder}/" for folder in TEXT_FOLDERS)]
        kinds = [("*.json", "merges.txt", weights) for weights in _TEXT_WEIGHTS]
    return [[folder + name for folder in folders for name in kind] for kind in kinds]
