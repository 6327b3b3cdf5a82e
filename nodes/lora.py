"""Load LoRA: changes Stage C, and its text encoder where one is connected, by a LoRA file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

from wuerstchen_core.checkpoints.lora_files import lora_files, shipped_loras
from wuerstchen_core.errors import WeightsMissingError

from .arguments import checked
from .host import current_host, host
from .lazy import LazyStageC, lazy_of
from .models import checked_name

logger = logging.getLogger("wuerstchen_nodes.lora")

DEFAULT = "cocktail-lime"
"""LoRA of a new node: the one that comes with the package."""
STRONGEST = 4.0
"""Largest strength, in both directions."""


def _strength(of: str) -> tuple[str, dict[str, Any]]:
    return (
        "FLOAT",
        {
            "default": 1.0,
            "min": -STRONGEST,
            "max": STRONGEST,
            "step": 0.05,
            "round": 0.001,
            "tooltip": f"How much {of} changes: 1 as it was trained, 0 not at all, below 0 the other way.",
        },
    )


def choices() -> list[str]:
    """List the LoRAs that come with the package, then those in the host's folders."""
    there = current_host()
    return [*shipped_loras(), *(there.lora_names() if there is not None else [])]


def source_of(name: str) -> str | Path:
    """Return the source that `load_lora` takes for a name that `choices` lists.

    Raises:
        WeightsMissingError: There is none of that name.
    """
    path = host().find_lora(checked_name(name, "name"))
    if path is None and name not in shipped_loras():
        raise WeightsMissingError(
            f"name is {name[:300]!r}, which is not in the LoRA folders; expected one of {', '.join(choices())}. Put "
            "the file there, or choose another LoRA."
        )
    return path or name


@checked
class LoadLora:
    """Adds a LoRA to Stage C and its text encoder."""

    CATEGORY = "wuerstchen/loaders"
    DESCRIPTION = (
        "Adds a LoRA to Stage C: a small file that teaches it a style, a subject or a colour. Connect several of these "
        "nodes in a row to stack them; their order does not matter. Every published key style is read."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen lora", "würstchen lora", "lora loader", "load lora", "adapter", "finetune"]
    FUNCTION = "load"
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C", "WUERSTCHEN_TEXT_ENCODER")
    RETURN_NAMES = ("stage_c", "text_encoder")
    OUTPUT_TOOLTIPS = (
        "Stage C with the LoRA, for Stage C Sampler, another Load LoRA or Save Stage C.",
        "The text encoder with the LoRA, where one is connected.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C, or another Load LoRA."}),
                "name": (
                    choices(),
                    {
                        "default": DEFAULT,
                        "tooltip": "The LoRA: one that comes with the pack, or a file in the folder of LoRAs "
                        "(models/loras).",
                        "takes_path_headless": True,
                    },
                ),
                "strength": _strength("Stage C"),
            },
            "optional": {
                "text_encoder": (
                    "WUERSTCHEN_TEXT_ENCODER",
                    {"tooltip": "Text encoder of Stage C, for a LoRA that was trained on it, too."},
                ),
                "text_strength": _strength("the text encoder"),
            },
        }

    @classmethod
    def IS_CHANGED(cls, name: str | None = None, **_: Any) -> str:
        stats = [(str(path), path.stat()) for path in cls.source_files(None, name, 0.0)]
        return str([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])

    @classmethod
    def source_files(cls, stage_c: Any, name: str | None, strength: float, **_: Any) -> list[Path]:
        """List the files that loading reads, for hosts whose cache keys cover the content of files."""
        return [] if name is None else lora_files(source_of(name))

    def load(
        self,
        stage_c: Any,
        name: str,
        strength: float,
        text_encoder: Any = None,
        text_strength: float = 1.0,
    ) -> tuple[Any, Any]:
        from wuerstchen_core.checkpoints.lora import load_lora
        from wuerstchen_core.weights.lora import WithLoras, apply_lora

        lora = load_lora(source_of(name))
        told = ""
        if lora.text_encoder and text_encoder is None:
            told = f"{lora.name} was trained on the text encoder, too: connect it here and to Text Encode."
            logger.warning("%s", told)
        host().notice(told)
        before = lazy_of(stage_c)
        recipe = WithLoras(before.recipe, [(lora, strength)])
        changed = LazyStageC(recipe, before.dtype) if strength and lora.stage_c else stage_c
        if text_encoder is not None and text_strength and (lora.text_encoder or lora.words):
            text_encoder = host().keep(apply_lora(host().network_of(text_encoder), lora, text_strength))
        return changed, text_encoder
