"""Settings of a finetuning, their checks, and the folder that belongs to them. The defaults are the authors' recipe."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ..checkpoints.presets import PRESETS
from ..checkpoints.sources import locate
from ..errors import InputError
from ..files.untrusted import read_json
from ..files.writing import replaced_whole
from ..geometry import STEP
from .lora import LAYERS, Layers

Kind = Literal["lora", "stage-c"]
"""A LoRA is trained, or every weight of Stage C."""
Precision = Literal["float32", "mixed", "bfloat16"]
"""float32; float32 weights with products in bfloat16; or bfloat16 for all that is not a LoRA."""
KINDS: tuple[Kind, ...] = ("lora", "stage-c")
SETTINGS_FILE, ENCODED = "settings.json", "encoded"
LOSSES = ("noise", "signal")
LARGEST = {"rank": 4096, "batch": 4096}
"""Largest number of a setting: the widest networks are narrower, and no step of more pictures fits into memory."""
MAX_RESOLUTION = 4096
"""Largest side of the square of training pictures. Those of four times the width have sides of 8192 pixels."""
SCHEDULES = ("constant", "cosine")
OPTIMIZERS = ("adamw", "adamw8bit")
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed", "bfloat16")


@dataclass(frozen=True)
class Finetuning:
    """Settings of a finetuning. The defaults are the authors' recipe.

    Attributes:
        kind: What is trained.
        model: A preset's name, or a Stage C checkpoint as for `load_stage_c`.
        pictures: A folder or a table of captioned pictures; see `captioned_pictures`.
        out: Folder of progress and result.
        encoders: Preset whose image encoder, text encoder and decoder go with `model`; None for the one of its width.
        rank: Rank of the LoRA.
        layers: Layers of the LoRA, one of `lora.LAYERS`.
        steps: Steps in all.
        learning_rate: Learning rate.
        schedule: Whether the learning rate stays ("constant") or falls to a fiftieth ("cosine").
        loss: "noise", the authors' own, or "signal", that of cocktail's training; None for what suits the model.
        batch: Pictures of a step.
        resolution: Side in pixels of the square that training pictures have about the area of; None for the model's.
        precision: One of PRECISIONS.
        optimizer: "adamw" or "adamw8bit".
        seed: Seed of batches and noise.
        keep: A text file of prompts, one a line, that are to be drawn as before; None for none. The network draws them
            before it is trained. A LoRA then learns to predict on these pictures what the network predicts without it;
            the whole network learns from the pictures themselves (Ruiz et al., "DreamBooth", 2022).
        prompts: Prompts of the validation pictures; none for the first four captions.
        validate_every: Steps between two rows of validation pictures; 0 for none.
        save_every: Steps between two saves.
    """

    kind: Kind
    model: str
    pictures: Path
    out: Path
    encoders: str | None = None
    rank: int = 16
    layers: Layers = "attention"
    steps: int = 1000
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    loss: Literal["noise", "signal"] | None = None
    batch: int = 4
    resolution: int | None = None
    precision: Precision = "mixed"
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    seed: int = 0
    keep: Path | None = None
    prompts: tuple[str, ...] = ()
    validate_every: int = 250
    save_every: int = 100


def check(settings: Finetuning) -> None:
    """Check settings as far as that goes without reading pictures and weights.

    Raises:
        InputError: One of them is out of range.
        WeightsMissingError, CheckpointError: The model is not on this machine, or not whole.
    """
    for name, least in (("rank", 1), ("steps", 1), ("batch", 1), ("validate_every", 0), ("save_every", 1)):
        value = getattr(settings, name)
        if value < least:
            raise InputError(f"{name} is {value}; expected {least} or more.")
        if name in LARGEST and value > LARGEST[name]:
            raise InputError(f"{name} is {value}; expected at most {LARGEST[name]}.")
    if settings.resolution is not None and settings.resolution < STEP:
        raise InputError(f"resolution is {settings.resolution}; expected {STEP} pixels or more, better 512 or 1024.")
    if settings.resolution is not None and settings.resolution > MAX_RESOLUTION:
        raise InputError(
            f"resolution is {settings.resolution}; expected at most {MAX_RESOLUTION} pixels, better 512 or 1024."
        )
    if not 0 < settings.learning_rate < 1:
        raise InputError(f"learning_rate is {settings.learning_rate}; expected above 0 and below 1, such as 1e-4.")
    choices: dict[str, Collection[str | None]] = {
        "kind": KINDS,
        "layers": LAYERS,
        "precision": PRECISIONS,
        "schedule": SCHEDULES,
        "loss": (*LOSSES, None),
        "optimizer": OPTIMIZERS,
    }
    for name, allowed in choices.items():
        value = getattr(settings, name)
        if value not in allowed:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(map(str, allowed))}.")
    if settings.encoders is not None and settings.encoders not in PRESETS:
        raise InputError(f"encoders is {settings.encoders!r}; expected one of {', '.join(PRESETS)}.")
    locate(settings.model, "C")


def claim(settings: Finetuning, *, pictures: str, keep: str | None) -> None:
    """Write the settings into the folder of a training; once it has trained, check that those in it are the same.

    Args:
        settings: Settings of the training.
        pictures: Digest of the pictures and their captions.
        keep: Digest of the prompts to keep; None for none.
    Raises:
        InputError: The folder holds another training, or cannot be written.
    """
    wanted: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    wanted.update(pictures=pictures, keep=keep)
    del wanted["out"], wanted["validate_every"], wanted["save_every"], wanted["prompts"]
    path = settings.out / SETTINGS_FILE
    try:
        if not path.is_file() or not _has_more(settings.out):
            with replaced_whole(path) as partial:
                partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            return
        found: object = read_json(path)
    except ValueError:
        found = None
    except OSError as error:
        raise InputError(
            f"{settings.out} cannot be written ({error.strerror or error}). Choose another folder."
        ) from error
    there = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    differing = [key for key, value in wanted.items() if there.get(key) != value]
    if differing:
        raise InputError(
            f"{settings.out} holds another training, with another {', '.join(differing)}. Expected the same settings "
            "and pictures, to go on with it. Choose another folder, or delete that one."
        )


def _has_more(folder: Path) -> bool:
    """Return whether a folder holds more than settings and what was encoded, which suits any training."""
    return any(path.name not in (SETTINGS_FILE, ENCODED) for path in folder.iterdir())
