"""Text Encode: a text prompt to the text embeddings that condition a stage."""

from typing import Any, ClassVar

from .host import host
from .sockets import conditioning_of


class TextEncode:
    """Encodes a prompt with a text encoder."""

    CATEGORY = "wuerstchen/text"
    DESCRIPTION = (
        "Turns a prompt into the text embeddings that condition a stage. Stage C and Stage B have a text encoder each, "
        "so a prompt for both is encoded twice. Text beyond the encoder's length (77 tokens in the published "
        "ones) is cut; the node shows which end, and words that the model does not know."
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
            }
        }

    def encode(self, text_encoder: Any, text: str) -> tuple[list[list[Any]]]:
        with host().resident(text_encoder) as encoder:
            host().notice("\n".join(encoder.remarks(text)))
            return (conditioning_of(encoder.encode([text]), encoder.for_stage),)
