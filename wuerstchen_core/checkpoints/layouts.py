"""Find the files of a checkpoint in each layout.

Layouts: the folder of a diffusers pipeline, the folder of one component, or one weights file (.safetensors, .pt, .bin).
Reads no tensors and needs no torch.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import CheckpointError, InputError, WeightsMissingError
from ..files import untrusted
from .components import STAGE_C, TEXT_ENCODER_C, TOKENIZER_FOLDER, Component

CONFIG_FILE = "config.json"
PREVIEW_FILE = "preview.json"
"""Colours for previews of a stage's latents: `{"latent_rgb": [channels + 1 rows of 3 numbers]}`. Optional."""
PREVIEWER_FILE = "previewer.safetensors"
"""Weights of a `Previewer` of Stage C's latents. Optional."""
PREVIEWER_FILES = (PREVIEWER_FILE, "text2img_wurstchen_b_v1_previewer_100k.pt")
"""Names of such weights, best first; the last is the previewer of Würstchen's authors, for the published Stage C."""
_PUBLISHER, _AUTHORS = "warp-ai", "dome272/wuerstchen"
WEIGHTS_NAME = "diffusion_pytorch_model"
VARIANTS = ("", ".fp16", ".bf16", ".non_ema")
"""Variants that diffusers and transformers put into the names of weights, best first; any other comes after these."""


def _kinds(name: str, suffix: str) -> tuple[tuple[str, ...], ...]:
    """Return the names of weights in each variant: one file, or the index of several (shards) in either spelling."""
    return tuple(
        tuple(dict.fromkeys((
            f"{name}{variant}.{suffix}",
            f"{name}.{suffix}.index{variant}.json",
            f"{name}{variant}.{suffix}.index.json",
        )))
        for variant in VARIANTS
    )  # fmt: skip


def _any_variant(name: str) -> re.Pattern[str]:
    """Return a pattern of such names in any variant; shards do not match."""
    return re.compile(rf"(?:{name})(?:\.\w+)?\.(?:safetensors|bin)(?:\.index(?:\.\w+)?\.json)?")


WEIGHT_KINDS = _kinds(WEIGHTS_NAME, "safetensors") + _kinds(WEIGHTS_NAME, "bin")
"""Names that diffusers gives to the weights of a stage, best first."""
WEIGHT_FILES = tuple(name for kind in WEIGHT_KINDS for name in kind)
_ANY_WEIGHTS = _any_variant(WEIGHTS_NAME)
TEXT_KINDS = _kinds("model", "safetensors") + _kinds("pytorch_model", "bin")
"""Names that transformers gives to the weights of a text encoder, best first."""
TEXT_WEIGHTS = tuple(name for kind in TEXT_KINDS for name in kind)
_ANY_TEXT_WEIGHTS = _any_variant("model|pytorch_model")
_MOST_SHARDS = 1000
"""Most files that an index may name."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
"""Files of a tokenizer; a folder with one of them holds a tokenizer."""


@dataclass(frozen=True)
class StageFiles:
    """Files of one stage, or of an image encoder.

    Attributes:
        source: Path where they were found: a weights file, the stage's folder or a pipeline's folder.
        weights: Weights file, or the index of `shards`.
        shards: Weights files that the index names; empty without an index.
        config: config.json beside the weights; None if there is none, or if it may belong to another network.
        preview: preview.json beside the weights; None if there is none.
        previewer: One of PREVIEWER_FILES; None if there is none.
    """

    source: Path
    weights: Path
    shards: tuple[Path, ...] = ()
    config: Path | None = None
    preview: Path | None = None
    previewer: Path | None = None

    @property
    def tensors(self) -> tuple[Path, ...]:
        """Files that hold the tensors."""
        return self.shards or (self.weights,)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that loading reads."""
        return (*filter(None, (self.config, self.preview, self.previewer)), self.weights, *self.shards)


@dataclass(frozen=True)
class TextEncoderFiles:
    """Files of a text encoder and its tokenizer.

    Attributes:
        source: Path where they were found: a weights file, the text encoder's folder or a pipeline's folder.
        weights: Weights file, or the index of `shards`.
        shards: Weights files that the index names; empty without an index.
        config: config.json beside the weights; None if there is none, or if it may belong to another network.
        tokenizer: Folder of the tokenizer; None if there is none.
    """

    source: Path
    weights: Path
    shards: tuple[Path, ...] = ()
    config: Path | None = None
    tokenizer: Path | None = None

    @property
    def tensors(self) -> tuple[Path, ...]:
        """Files that hold the tensors."""
        return self.shards or (self.weights,)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that loading reads, the weights first."""
        beside = sorted(self.tokenizer.iterdir()) if self.tokenizer else []
        others = [path for path in (self.config, *beside) if path is not None and path.is_file()]
        return tuple(dict.fromkeys((self.weights, *self.shards, *others)))


def find_stage(source: Path, component: Component) -> StageFiles:
    """Find the files of a stage.

    Args:
        source: Existing weights file, stage's folder, or pipeline's folder that contains the stage's.
        component: The stage, or the image encoder.
    Raises:
        WeightsMissingError: There are no weights, or a shard is missing.
        CheckpointError: The index of the shards is damaged, or names a file elsewhere.
    """
    weights = _find_weights(source, component) if source.is_dir() else source
    shards = _shards_of(weights) if ".index" in weights.suffixes else ()
    # What lies beside a file of another name may belong to another network.
    named = _ANY_WEIGHTS.fullmatch(weights.name)
    config = _if_file(weights.with_name(CONFIG_FILE)) if named else None
    preview = _if_file(weights.with_name(PREVIEW_FILE)) if named else None
    previewer = _find_previewer(weights) if component == STAGE_C and named else None
    return StageFiles(source, weights, shards, config, preview, previewer)


def find_text_encoder(source: Path) -> TextEncoderFiles:
    """Find the files of a text encoder and its tokenizer.

    Args:
        source: A weights file, the text encoder's folder, or a pipeline's folder that contains it.
    Raises:
        WeightsMissingError: There are no weights, or a shard is missing.
        CheckpointError: The index of the shards is damaged, or names a file elsewhere.
    """
    folder = TEXT_ENCODER_C.folder
    places = (source / folder, source) if source.is_dir() else ()
    found = (_first_weights(place, TEXT_WEIGHTS, _ANY_TEXT_WEIGHTS) for place in places)
    weights = next(filter(None, found), None if places else source)
    if weights is None:
        raise WeightsMissingError(
            f"{source} is no text encoder: expected a folder with {TEXT_WEIGHTS[0]} in it or in {folder}/. Choose the "
            "pipeline's folder, the text encoder's, or its weights file."
        )
    named = _ANY_TEXT_WEIGHTS.fullmatch(weights.name)  # as for a stage
    shards = _shards_of(weights) if ".index" in weights.suffixes else ()
    config = _if_file(weights.with_name(CONFIG_FILE)) if named else None
    beside = (weights.parent, weights.parent.parent / TOKENIZER_FOLDER) if named else ()
    tokenizer = next((each for each in beside if _first_file(each, TOKENIZER_FILES)), None)
    return TextEncoderFiles(source, weights, shards, config, tokenizer)


def read_json(path: Path) -> dict[str, object]:
    """Read the object in a JSON file.

    Raises:
        WeightsMissingError: There is no such file.
        CheckpointError: It cannot be read, is not JSON, or is not an object.
    """
    try:
        content: object = untrusted.read_json(path)
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path} does not exist; expected a JSON file. Check the path.") from error
    except OSError as error:
        raise cannot_read(path, error) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a JSON object. Download it again.")
    return cast("dict[str, object]", content)


def existing(source: str | Path) -> Path | None:
    """Return the path that a text names, "~" being the home folder; None where there is nothing.

    Raises:
        InputError: It is neither a text nor a path.
    """
    if not isinstance(cast(object, source), str | Path):
        raise InputError(f"the source is a {type(source).__name__}; expected the path of a file or a folder.")
    try:
        path = os.path.expanduser(source)
    except ValueError:  # the name of a user that no user can have
        return None
    return Path(path) if os.path.exists(path) else None


def check_file(path: Path) -> None:
    """Check that a path is a regular file. Raises: CheckpointError, where it is a pipe, a device or a folder."""
    if not os.path.isfile(path):
        raise cannot_read(path, ValueError("it is a folder, a pipe or a device, or it is gone"))


def cannot_read(path: Path, error: OSError | ValueError) -> CheckpointError:
    """Return the error of a file of a checkpoint that cannot be opened."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return CheckpointError(f"{path} cannot be read: {reason}. Expected a file that you may read; check the path.")


def _find_weights(folder: Path, component: Component) -> Path:
    for each in (folder / component.folder, folder):
        weights = _first_weights(each, WEIGHT_FILES, _ANY_WEIGHTS)
        if weights:
            return weights
    raise WeightsMissingError(
        f"{folder} has no weights of the {component.folder}: expected {WEIGHT_FILES[0]} in it or in "
        f"{component.folder}/, found {_listing(folder)}. Choose the folder of a {component.folder}, or one weights "
        "file."
    )


def _find_previewer(weights: Path) -> Path | None:
    """Return the previewer beside the weights; for published weights in a model folder the authors' there, too."""
    beside = _first_file(weights.parent, PREVIEWER_FILES)
    models = next((folder.parent for folder in weights.parents if folder.name == _PUBLISHER), None)
    if beside or models is None:
        return beside
    found = (_first_file(folder, PREVIEWER_FILES[1:]) for folder in (models / _AUTHORS, models))
    return next(filter(None, found), None)


def _shards_of(index: Path) -> tuple[Path, ...]:
    """Return the files beside an index.json that it names."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; expected an index of shards. Download it again.")
    named: dict[str, None] = {}
    for name in cast("dict[str, object]", weight_map).values():
        if not isinstance(name, str) or not name or Path(name).name != name or len(name) > 255 or "\0" in name:
            raise CheckpointError(
                f"{index} names the shard {str(name)[:100]!r}; expected a file beside it. Do not trust this index."
            )
        named[name] = None
    if len(named) > _MOST_SHARDS:
        raise CheckpointError(f"{index} names {len(named):,} shards; expected at most {_MOST_SHARDS}.")
    for name in sorted(named):
        if not index.with_name(name).is_file():
            raise WeightsMissingError(f"{index} names the shard {name!r}, which is not there. Download the rest.")
    return tuple(index.with_name(name) for name in sorted(named))


def _first_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _first_weights(folder: Path, names: tuple[str, ...], any_variant: re.Pattern[str]) -> Path | None:
    """Return the first file of the names in a folder, else of any other variant."""
    known = _first_file(folder, names)
    if known is not None or not folder.is_dir():
        return known
    others = sorted(path for path in folder.iterdir() if any_variant.fullmatch(path.name) and path.is_file())
    return others[0] if others else None


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _listing(folder: Path) -> str:
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    except OSError as error:
        return f"that it cannot be listed ({error.strerror or error})"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return shown or "nothing"
