"""Thumbnails of values that travel between nodes, for the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from wuerstchen_core.errors import CheckpointError, WeightsMissingError

from . import models

if TYPE_CHECKING:
    from torch import Tensor

    from wuerstchen_core.networks.previewer import Previewer

LONGEST_SIDE = 128
"""Pixels of a thumbnail's longer side."""
_LOADERS = {"WuerstchenLoadStageC": "C", "WuerstchenLoadStageB": "B"}


def thumbnail(value: Any, models_of: Mapping[str, str]) -> str | None:
    """Return a small picture of a LATENT, an IMAGE or a MASK as a data URL; None for other values.

    Args:
        value: Value of the socket.
        models_of: {"C" or "B": name of the model whose latents they may be}, for the stage's own colours.
    """
    import torch

    if isinstance(value, Mapping) and isinstance(value.get("samples"), torch.Tensor):
        latents = value["samples"]
        return _url(_preview(latents[:1], models_of)) if latents.ndim == 4 and len(latents) else None
    if not isinstance(value, torch.Tensor) or value.ndim not in (3, 4) or not len(value):
        return None
    return _url(value[:1, ..., :3] if value.ndim == 4 else value[:1, ..., None].expand(-1, -1, -1, 3))


def models_before(prompt: Mapping[str, Any], node_ids: set[str]) -> dict[str, str]:
    """Return the model of each stage that is loaded by one of some nodes, {"C" or "B": name}; the last one counts."""
    found: dict[str, str] = {}
    for node_id in node_ids:
        stage, name = _LOADERS.get(prompt[node_id]["class_type"]), prompt[node_id]["inputs"].get("model")
        if stage is not None and isinstance(name, str):
            found[stage] = name
    return found


def _preview(latents: Tensor, models_of: Mapping[str, str]) -> Tensor:
    """Return a preview [1, height, width, 3] in 0..1 of latents [1, channels, height, width]."""
    from wuerstchen_core.geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT, STAGE_C_CHANNELS
    from wuerstchen_core.previews import preview_in

    is_c = latents.shape[1] == STAGE_C_CHANNELS
    colours = _colours(models_of, "C" if is_c else "B", latents.shape[1])
    # previews are of latents as a sampler leaves them
    return preview_in(colours, (latents + EMBEDDING_SHIFT) / EMBEDDING_SCALE if is_c else latents)


def _colours(models_of: Mapping[str, str], stage: str, channels: int) -> Previewer | Tensor | None:
    from wuerstchen_core.checkpoints.colours import load_colours

    name = models_of.get(stage)
    if name is None:
        return None
    try:
        return load_colours(models.source_of(name, stage), stage, channels)
    except (CheckpointError, WeightsMissingError, OSError):  # other colours will do
        return None


def _url(images: Tensor) -> str:
    """Return the first of images [batch, height, width, 3] in 0..1 as a data URL of a PNG."""
    import torch
    from PIL import Image

    pixels = images[0].detach().float().nan_to_num(0, 0, 0).clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    picture = Image.fromarray(pixels.contiguous().numpy())
    factor = LONGEST_SIDE / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    buffer = BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
