# pyright: reportUnknownMemberType=false
# torch types from_numpy in part only.
"""Images that are encoded once and kept, since the encoders no longer change when Stages B and C are trained."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files.writing import replaced_whole
from ..networks.processor import HAS_BFLOAT16
from .pictures import SIZES, Batch, Pictures, batch_of, draw_batch, random_size

log = logging.getLogger(__name__)

Encoder = Callable[[Batch], Tensor]
"""Function from images to encoded tensors [count, ...]."""


@dataclass(frozen=True)
class Bucket:
    """Encoded images of one size.

    Attributes:
        tensors (dict[str, Tensor]): Name of the encoder -> [count, ...], float16. bfloat16 would round the place of a
            figure by more than a pixel.
        captions (list[str]): One for each image.
    """

    tensors: dict[str, Tensor]
    captions: list[str]


class Pool:
    """Encoded images to draw batches from.

    Args:
        buckets: Size of the images (width, height) -> the images.
        shares: Size of the images -> its share of the batches.
    """

    def __init__(self, buckets: dict[tuple[int, int], Bucket], shares: Mapping[tuple[int, int], float]) -> None:
        self._buckets = buckets
        self._shares = shares

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[dict[str, Tensor], list[str]]:
        """Draw a batch of one size.

        Args:
            rng: Random generator.
            batch: Number of images of 256x256; larger sizes get proportionally fewer.
        Returns:
            tuple[dict[str, Tensor], list[str]]: Name of the encoder -> [batch, ...], float32; and the captions.
        """
        width, height = random_size(rng, self._shares)
        bucket = self._buckets[width, height]
        chosen = rng.integers(len(bucket.captions), size=batch_of(batch, width, height))
        tensors = {name: tensor[torch.from_numpy(chosen)].float() for name, tensor in bucket.tensors.items()}
        return tensors, [bucket.captions[i] for i in chosen]


@torch.no_grad()
def make_pool(
    pictures: Pictures,
    encoders: dict[str, Encoder],
    count: int,
    path: Path,
    *,
    seed: int,
    shares: Mapping[tuple[int, int], float] = SIZES,
) -> Pool:
    """Draw and encode images, or load those of an earlier call.

    Args:
        pictures: Source of the images.
        encoders: Name -> encoder.
        count: Number of images, at least.
        path: File to keep the pool in.
        seed: Seed of the drawn images.
        shares: Size of the images (width, height) -> its share of them, and of the batches.
    """
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        return Pool({size: Bucket(tensors, captions) for size, tensors, captions in saved}, shares)
    rng = np.random.default_rng(seed)
    buckets: dict[tuple[int, int], Bucket] = {}
    for (width, height), share in shares.items():
        parts: dict[str, list[Tensor]] = {name: [] for name in encoders}
        captions: list[str] = []
        while len(captions) < count * share:
            batch = draw_batch(pictures, rng, 16, width, height)
            captions += batch.captions
            with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BFLOAT16):
                for name, encode in encoders.items():
                    parts[name].append(encode(batch).half())
        buckets[width, height] = Bucket({name: torch.cat(part) for name, part in parts.items()}, captions)
        log.info("%s: %d images of %dx%d encoded", path.stem, len(captions), width, height)
    with replaced_whole(path) as partial:
        torch.save([(size, bucket.tensors, bucket.captions) for size, bucket in buckets.items()], partial)
    return Pool(buckets, shares)
