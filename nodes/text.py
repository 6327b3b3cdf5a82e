"""Text Encode: a text prompt to the text embeddings that condition a stage."""

import random
from pathlib import Path
from typing import Any, ClassVar

from wuerstchen_core.text.prompts import resolve_choices

from .arguments import checked
from .embeddings import Embeddings, files_of
from .host import host
from .sockets import conditioning_of

ON, OFF = "on", "off"


@checked
class TextEncode:
    """Encodes a prompt with a text encoder."""

    CATEGORY = "wuerstchen/text"
    DESCRIPTION = (
        "Turns a prompt into the text embeddings that condition a stage. Stage C and Stage B have a text encoder each, "
        "so a prompt for both is encoded twice. The node shows what of a prompt the model does not know, or cannot "
        "take."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen prompt", "würstchen prompt", "clip text encode", "conditioning"]
    FUNCTION = "encode"
    RETURN_TYPES = ("CONDITIONING",)
    RETURN_NAMES = ("conditioning",)
    OUTPUT_TOOLTIPS = ("The prompt's text embeddings, for the stage that the text encoder was loaded for.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "text_encoder": (
                    "WUERSTCHEN_TEXT_ENCODER",
                    {"tooltip": "From Load Text Encoder, loaded for the stage that this prompt goes to."},
                ),
                "text": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "dynamicPrompts": True,
                        "tooltip": "What the image shows; for a negative prompt, what to avoid.",
                    },
                ),
            },
            "optional": {
                # The page turns it on for new nodes; in a workflow from before it is missing, and off.
                "weights": (
                    [OFF, ON],
                    {
                        "default": OFF,
                        "tooltip": "on: (words:1.3), (words) and [words] weigh more or less, a prompt may be of any "
                        "length, and embedding:name stands for a textual inversion. off: the text is taken literally, "
                        "and its end is cut where it is too long (77 tokens in the published encoders).",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, text: str | None = None, weights: str = OFF, **_: Any) -> str:
        stats = [(str(path), path.stat()) for path in cls.source_files(None, text, weights)]
        return str([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])

    @classmethod
    def source_files(cls, text_encoder: Any, text: str | None, weights: str = OFF) -> list[Path]:
        """List the files of the embeddings in a prompt, for hosts whose cache keys cover the content of files."""
        return files_of(text) if weights == ON else []

    def encode(self, text_encoder: Any, text: str, weights: str = OFF) -> tuple[list[list[Any]]]:
        if weights != ON:
            with host().resident(text_encoder) as encoder:
                host().notice("\n".join(encoder.remarks(text)))
                return (conditioning_of(encoder.encode([text]), encoder.for_stage),)
        # Choices and comments are left where a text comes through a link. The draw depends on the text alone, so that
        # the prompts of both stages are the same.
        words, there = resolve_choices(text, random.Random(text).choice), Embeddings()
        with host().resident(text_encoder) as encoder:
            remarks = encoder.remarks(words, weights=True, embeddings=there)
            host().notice("\n".join([f"Read as: {words}"] * (words != text) + remarks))
            embedding = encoder.encode([words], weights=True, embeddings=there)
            return (conditioning_of(embedding, encoder.for_stage, encoder.max_tokens),)
