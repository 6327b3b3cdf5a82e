"""A node pack for the tests: values that no other node would give, at any socket."""

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from support import bad_values

KINDS = {
    "anything": bad_values.ANYTHING,
    "conditioning": bad_values.conditionings(128),
    "latent of C": bad_values.latents(16, 6, 6),
    "latent of B": bad_values.latents(4, 64, 64),
    "image": bad_values.images(),
    "number": bad_values.NUMBERS,
    "name": bad_values.NAMES,
}


class AnyType(str):
    """A type that fits every socket."""

    def __ne__(self, _: object) -> bool:
        return False


class WrongValue:
    """Gives a wrong value by name, or another node's value as if it was of any type."""

    CATEGORY = "tests"
    FUNCTION = "give"
    RETURN_TYPES = (AnyType("*"),)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"kind": ("STRING", {"default": ""}), "name": ("STRING", {"default": ""})},
            "optional": {"value": (AnyType("*"),)},
        }

    def give(self, kind: str, name: str, value: Any = None) -> tuple[Any]:
        return (KINDS[kind][name] if kind else value,)


NODE_CLASS_MAPPINGS = {"WrongValue": WrongValue}
