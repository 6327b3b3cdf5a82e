"""The named models, and where each of their components lives. One table."""

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class Place:
    """Where a component lives.

    repo: a Hugging Face repository, "owner/name"; None for the data of this package. folder: the folder inside it;
    empty for the whole. A text encoder's folder holds text_encoder/ and tokenizer/.
    """

    repo: str | None
    folder: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.repo or "wuerstchen_core/cocktail", self.folder) if part)


def _cocktail(stage_c: str) -> dict[str, Place]:
    return {
        "C": Place(None, stage_c),
        "B": Place(None, "wuerstchen/decoder"),
        "A": Place(None, "wuerstchen/vqgan"),
        "text_encoder_c": Place(None, "wuerstchen-prior"),
        "text_encoder_b": Place(None, "wuerstchen"),
    }


def _v2(stage_c: str) -> dict[str, Place]:
    return {
        "C": Place(stage_c, ""),
        "B": Place("warp-ai/wuerstchen", "decoder"),
        "A": Place("warp-ai/wuerstchen", "vqgan"),
        "text_encoder_c": Place("warp-ai/wuerstchen-prior", ""),
        "text_encoder_b": Place("warp-ai/wuerstchen", ""),
    }


PRESETS: dict[str, dict[str, Place]] = {
    "cocktail": _cocktail("wuerstchen-prior/prior"),
    "cocktail-base": _cocktail("prior-base"),
    "cocktail-aesthetic": _cocktail("prior-aesthetic"),
    "v2-base": _v2("warp-ai/wuerstchen-prior-model-base"),
    "v2-aesthetic": _v2("warp-ai/wuerstchen-prior-model-finetuned"),
    "v2-interpolated": _v2("warp-ai/wuerstchen-prior-model-interpolated"),
}
"""Preset -> part -> place. Parts: the stages "C", "B" and "A", and the text encoders of C and B."""


def preset_names(part: str = "") -> list[str]:
    """Presets that have a part whose name begins with `part`: "C", "B", "A" or "text_encoder"."""
    return [name for name, places in PRESETS.items() if any(each.startswith(part) for each in places)]


def preset(name: str) -> dict[str, Place]:
    """The places of a preset's parts.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"model is {name!r}; expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def natural_size(name: str) -> int:
    """The side in pixels of the pictures that a preset was made to draw."""
    return 256 if _is_embedded(name) else 1024


def stage_b_guidance(name: str) -> float:
    """The guidance scale that a preset's Stage B draws best with: none as published, some for the small one."""
    return 3.0 if _is_embedded(name) else 0.0


def _is_embedded(name: str) -> bool:
    return preset(name)["C"].repo is None
