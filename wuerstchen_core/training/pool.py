"""Pictures encoded once and kept, since the encoders are frozen by the time Stages B and C learn."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..networks.processor import HAS_BFLOAT16
from .pictures import SIZES, Pictures, batch_of, draw_batch

log = logging.getLogger(__name__)

Encoder = Callable[[Tensor], Tensor]
"""Images [batch, 3, height, width] in 0..1 -> what is kept of them [batch, ...]."""


@dataclass(frozen=True)
class Bucket:
    """Encoded pictures of one size: each tensor [count, ...], and their captions."""

    tensors: dict[str, Tensor]
    captions: list[str]


class Pool:
    """Buckets of encoded pictures, one a size."""

    def __init__(self, buckets: dict[tuple[int, int], Bucket]) -> None:
        self._buckets = buckets

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[dict[str, Tensor], list[str]]:
        """A batch of one size: `batch` pictures of 256x256, or as many fewer as they are larger."""
        sizes = list(self._buckets)
        width, height = sizes[rng.choice(len(sizes), p=[SIZES[size] for size in sizes])]
        bucket = self._buckets[width, height]
        chosen = rng.integers(len(bucket.captions), size=batch_of(batch, width, height))
        tensors = {name: tensor[torch.from_numpy(chosen)].float() for name, tensor in bucket.tensors.items()}
        return tensors, [bucket.captions[i] for i in chosen]


@torch.no_grad()
def make_pool(pictures: Pictures, encoders: dict[str, Encoder], count: int, path: Path, *, seed: int) -> Pool:
    """Draw and encode `count` pictures, each size as often as training draws it; kept in `path` for the next start."""
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        return Pool({size: Bucket(tensors, captions) for size, tensors, captions in saved})
    rng = np.random.default_rng(seed)
    buckets: dict[tuple[int, int], Bucket] = {}
    for (width, height), share in SIZES.items():
        parts: dict[str, list[Tensor]] = {name: [] for name in encoders}
        captions: list[str] = []
        while len(captions) < count * share:
            images, drawn = draw_batch(pictures, rng, 16, width, height)
            captions += drawn
            with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BFLOAT16):
                for name, encode in encoders.items():
                    parts[name].append(encode(images).to(torch.bfloat16))
        buckets[width, height] = Bucket({name: torch.cat(part) for name, part in parts.items()}, captions)
        log.info("%s: %d pictures of %dx%d encoded", path.stem, len(captions), width, height)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save([(size, bucket.tensors, bucket.captions) for size, bucket in buckets.items()], partial)
    os.replace(partial, path)
    return Pool(buckets)
