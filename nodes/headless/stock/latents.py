"""ComfyUI's own nodes that save and load latents. A .latent file is a safetensors file."""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from wuerstchen_core.errors import InputError
from wuerstchen_core.files.untrusted import MAX_TEXT_BYTES, check_size, open_file, parse_json, sha256_of
from wuerstchen_core.geometry import MAX_SIZE, STAGE_B_CHANNELS

from ...sockets import SIZE_KEY, asked_size
from ..host import current
from .images import HIDDEN, metadata_texts
from .input_files import explain_missing, find_input, names_of_inputs

_KEY, _VERSION_KEY = "latent_tensor", "latent_format_version_0"
_DTYPES = ("F64", "F32", "F16", "BF16")
_MAX_VALUES = STAGE_B_CHANNELS * (MAX_SIZE // 4) ** 2
"""Most values of a latent: those of Stage B for the largest image, or for 64 images of 1024x1024."""
_MAX_BYTES = 4 * _MAX_VALUES + MAX_TEXT_BYTES
"""Largest .latent file, with the workflow inside."""
_MAX_LISTS = 900_000
"""Most lists and objects in its header, those of the workflow included. A tensor has three."""
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

        tensors = {_KEY: samples["samples"].contiguous(), _VERSION_KEY: torch.tensor([])}
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
        return explain_missing(latent, _MAX_BYTES)

    @classmethod
    def IS_CHANGED(cls, latent: str) -> str:
        return sha256_of(find_input(latent))

    def load(self, latent: str) -> tuple[dict[str, Any]]:
        path = find_input(latent)
        samples, metadata = _read(path)
        return ({"samples": samples, **_asked_size(metadata)},)


def _read(path: Path) -> tuple[Any, dict[str, str]]:
    """Return the values and the metadata of a .latent file. Raises: InputError."""
    from safetensors import safe_open

    try:
        check_size(path, _MAX_BYTES)
        _check_names(path)
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if _KEY not in names:
                found = ", ".join(name[:40] for name in sorted(names)[:5]) or "nothing"
                raise InputError(f"{path} holds {found}; expected {_KEY!r}, as Save Latent writes.")
            _check_values(file.get_slice(_KEY), path)
            samples = file.get_tensor(_KEY).float()
            return samples if _VERSION_KEY in names else samples * _OLD_SCALE, file.metadata() or {}
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} is not a .latent file: {reason}. Use one that Save Latent wrote.") from error


def _check_names(path: Path) -> None:
    """Raise ValueError where a file may have very many tensors, all of which safetensors would list."""
    with open_file(path) as file:
        header = file.read(min(_MAX_BYTES, int.from_bytes(file.read(8), "little")))
    if header.count(b"{") + header.count(b"[") > _MAX_LISTS:
        raise ValueError(f"its header has more than {_MAX_LISTS:,} lists and objects")


def _check_values(values: Any, path: Path) -> None:
    """Check values that a file has, before they are read. Raises: InputError."""
    dtype, shape = values.get_dtype(), values.get_shape()
    if dtype not in _DTYPES:
        raise InputError(f"{path} holds values of {dtype}; expected {', '.join(_DTYPES)}. Save it as one of them.")
    count = math.prod(shape)
    if count > _MAX_VALUES:
        raise InputError(f"{path} holds {count:,} values; expected at most {_MAX_VALUES:,}. Save fewer images in one.")


def _asked_size(metadata: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return the keys by which the LATENT in a file remembers its image size; none if it does not say one."""
    text = metadata.get(SIZE_KEY, "null")
    try:
        width, height = parse_json(text)
        return asked_size(width, height)
    except (TypeError, ValueError, InputError):
        return {}
