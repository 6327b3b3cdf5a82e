"""ComfyUI's own nodes that save and load latents. A .latent file is a safetensors file."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from wuerstchen_core.errors import InputError
from wuerstchen_core.files.untrusted import parse_json, read_bytes, sha256_of

from ...sockets import SIZE_KEY, asked_size
from ..host import current
from .images import HIDDEN, metadata_texts
from .input_files import explain_missing, find_input, names_of_inputs

_VERSION_KEY = "latent_format_version_0"
_MAX_BYTES = 512 * 2**20
"""Largest .latent file; that of Stage B for an image of 1024x1024 has 1 MiB."""
_OLD_SCALE = 1 / 0.18215
"""Factor for files that lack the key, whose latents are scaled by 0.18215."""


class SaveLatent:
    """Saves a latent, with the workflow inside."""

    CATEGORY = "latent"
    FUNCTION = "save"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"samples": ("LATENT", {}), "filename_prefix": ("STRING", {"default": "latents/ComfyUI"})},
            "hidden": HIDDEN,
        }

    def save(
        self, samples: Any, filename_prefix: str, prompt: Any = None, extra_pnginfo: Any = None, unique_id: str = ""
    ) -> dict[str, Any]:
        import torch
        from safetensors.torch import save

        tensors = {"latent_tensor": samples["samples"].contiguous(), _VERSION_KEY: torch.tensor([])}
        asked = {SIZE_KEY: json.dumps(samples[SIZE_KEY])} if SIZE_KEY in samples else {}
        data = save(tensors, metadata_texts(prompt, extra_pnginfo) | asked)
        files = current().files
        path = files.save(data, filename_prefix, node_id=unique_id, suffix=".latent")
        return {"ui": {"latents": [{**files.reference(path), "type": "output"}]}}


class LoadLatent:
    """Loads a latent by its path, or by its name in the input folders."""

    CATEGORY = "latent"
    FUNCTION = "load"
    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"latent": (names_of_inputs(frozenset({".latent"})), {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, latent: Any) -> bool | str:
        return explain_missing(latent)

    @classmethod
    def IS_CHANGED(cls, latent: str) -> str:
        return sha256_of(find_input(latent))

    def load(self, latent: str) -> tuple[dict[str, Any]]:
        path = find_input(latent)
        tensors, metadata = _read(path)
        if "latent_tensor" not in tensors:
            found = ", ".join(list(tensors)[:5]) or "nothing"
            raise InputError(f"{path} holds {found}; expected 'latent_tensor', as Save Latent writes.")
        scale = 1.0 if _VERSION_KEY in tensors else _OLD_SCALE
        return ({"samples": tensors["latent_tensor"].float() * scale, **_asked_size(metadata)},)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors and the metadata of a .latent file. Raises: InputError."""
    from safetensors import safe_open
    from safetensors.torch import load

    try:
        tensors = load(read_bytes(path, _MAX_BYTES))
        with safe_open(path, framework="pt") as file:
            return tensors, file.metadata() or {}
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} is not a .latent file: {reason}. Use one that Save Latent wrote.") from error


def _asked_size(metadata: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return the keys by which the LATENT in a file remembers its image size; none if it does not say one."""
    text = metadata.get(SIZE_KEY, "null")
    try:
        width, height = parse_json(text)
        return asked_size(width, height)
    except (TypeError, ValueError, InputError):
        return {}
