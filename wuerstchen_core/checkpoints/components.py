"""Table of the parts of a model, with their names in presets, in messages and in a diffusers pipeline.

Needs no torch. `loading` joins each stage with its network.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Component:
    """One part of a model.

    Attributes:
        part: Name of the part in presets.
        title: Name in messages.
        folder: Folder in a diffusers pipeline.
        class_name: Class in diffusers, or in transformers for text encoders.
        mark: Key that only this network has, under the published names.
    """

    part: str
    title: str
    folder: str
    class_name: str
    mark: str

    @property
    def is_text_encoder(self) -> bool:
        """True for a text encoder, which comes with a tokenizer; the other parts are networks alone."""
        return self.class_name == "CLIPTextModel"

    @property
    def label(self) -> str:
        """Title with the folder, such as "Stage C (prior)"."""
        return f"{self.title} ({self.folder})"


_TEXT_MARK = "embeddings.token_embedding.weight"

STAGE_C = Component("C", "Stage C", "prior", "WuerstchenPrior", "cond_mapper.0.weight")
STAGE_B = Component("B", "Stage B", "decoder", "WuerstchenDiffNeXt", "clip_mapper.weight")
STAGE_A = Component("A", "Stage A", "vqgan", "PaellaVQModel", "vquantizer.embedding.weight")
TEXT_ENCODER_C = Component("text_encoder_c", "text encoder of Stage C", "text_encoder", "CLIPTextModel", _TEXT_MARK)
TEXT_ENCODER_B = Component("text_encoder_b", "text encoder of Stage B", "text_encoder", "CLIPTextModel", _TEXT_MARK)
IMAGE_ENCODER = Component("image_encoder", "image encoder", "image_encoder", "EfficientNetEncoder", "mapper.0.weight")
COCKTAIL_ENCODER = replace(IMAGE_ENCODER, class_name="CocktailEncoder", mark="encoder.0.0.weight")
"""The image encoder of the embedded model, which is another network."""

STAGES = {each.part: each for each in (STAGE_C, STAGE_B, STAGE_A)}
"""Stage -> component."""
TEXT_ENCODERS = {STAGE_C.part: TEXT_ENCODER_C, STAGE_B.part: TEXT_ENCODER_B}
"""Stage -> component of its text encoder. Stage A has none."""
COMPONENTS = {each.part: each for each in (*STAGES.values(), *TEXT_ENCODERS.values(), IMAGE_ENCODER)}
"""Part -> component."""

TOKENIZER_FOLDER = "tokenizer"
"""Folder of a text encoder's tokenizer in a diffusers pipeline."""


def describe(keys: Collection[str]) -> str | None:
    """Name the network that keys belong to, for messages.

    Args:
        keys: Keys of a checkpoint under the published names.
    Returns:
        str | None: A stage's label, "an image encoder" or "a text encoder"; None for another model.
    """
    for stage in STAGES.values():
        if stage.mark in keys:
            return stage.label
    if any(encoder.mark in keys for encoder in (IMAGE_ENCODER, COCKTAIL_ENCODER)):
        return "an image encoder"
    # some versions of transformers put "text_model." before every key
    is_text = any(key.removeprefix("text_model.") == _TEXT_MARK for key in keys)
    return "a text encoder" if is_text else None
