"""Table of the presets: named models and the place of each of their parts."""

from dataclasses import dataclass

from ..errors import InputError
from .components import STAGE_A, STAGE_B, STAGE_C, TEXT_ENCODER_B, TEXT_ENCODER_C


@dataclass(frozen=True)
class Place:
    """Repository and folder of a part. Its string is the path below a model folder.

    Attributes:
        repo: Hugging Face repository, "owner/name"; None for the weights inside this package.
        folder: Folder in the repository; empty for the whole. A text encoder's holds text_encoder/ and tokenizer/.
    """

    repo: str | None
    folder: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.repo or "wuerstchen_core/cocktail", self.folder) if part)


def _cocktail(stage_c: str) -> dict[str, Place]:
    return {
        STAGE_C.part: Place(None, stage_c),
        STAGE_B.part: Place(None, f"wuerstchen/{STAGE_B.folder}"),
        STAGE_A.part: Place(None, f"wuerstchen/{STAGE_A.folder}"),
        TEXT_ENCODER_C.part: Place(None, "wuerstchen-prior"),
        TEXT_ENCODER_B.part: Place(None, "wuerstchen"),
    }


def _v2(stage_c: str) -> dict[str, Place]:
    return {
        STAGE_C.part: Place(stage_c, ""),
        STAGE_B.part: Place("warp-ai/wuerstchen", STAGE_B.folder),
        STAGE_A.part: Place("warp-ai/wuerstchen", STAGE_A.folder),
        TEXT_ENCODER_C.part: Place("warp-ai/wuerstchen-prior", ""),
        TEXT_ENCODER_B.part: Place("warp-ai/wuerstchen", ""),
    }


PRESETS: dict[str, dict[str, Place]] = {
    "cocktail": _cocktail(f"wuerstchen-prior/{STAGE_C.folder}"),
    "cocktail-base": _cocktail("prior-base"),
    "cocktail-aesthetic": _cocktail("prior-aesthetic"),
    "v2-base": _v2("warp-ai/wuerstchen-prior-model-base"),
    "v2-aesthetic": _v2("warp-ai/wuerstchen-prior-model-finetuned"),
    "v2-interpolated": _v2("warp-ai/wuerstchen-prior-model-interpolated"),
}
"""Preset -> part -> place, for every part of `components.COMPONENTS`."""


def preset_names(part: str = "") -> list[str]:
    """List the presets that have a part whose name begins with `part`, such as "C" or "text_encoder"."""
    return [name for name, places in PRESETS.items() if any(each.startswith(part) for each in places)]


def preset(name: str) -> dict[str, Place]:
    """Return the place of each part of a preset.

    Raises:
        InputError: There is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"model is {name!r}; expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def natural_size(name: str) -> int:
    """Return the side in pixels of the images that a preset was trained on.

    Raises:
        InputError: There is no such preset.
    """
    return 256 if _is_packaged(name) else 1024


def stage_b_guidance(name: str) -> float:
    """Return the best guidance scale for a preset's Stage B: 0 for the published models, 3 for the small ones.

    Raises:
        InputError: There is no such preset.
    """
    return 3.0 if _is_packaged(name) else 0.0


def _is_packaged(name: str) -> bool:
    return preset(name)[STAGE_C.part].repo is None
