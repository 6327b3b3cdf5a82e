"""The semantic compressor: the small image encoder whose 16-channel output Stage C learns to draw.

The published model uses an EfficientNet, pretrained on photographs. Ours is the best linear one for the pictures it is
fitted to: the 16 principal components of their patches. It needs no training, and a small error in its output is a
small change of the picture, so Stage C may be small.
"""

from collections.abc import Iterable
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import PIXELS_PER_STAGE_C, STAGE_C_CHANNELS
from ..stages import EMBEDDING_SCALE, EMBEDDING_SHIFT

STRIDE = 32
"""Side of a patch, in pixels of the compressor's input: the image at 32/42.67 of its size."""


class SemanticCompressor(nn.Module):
    """Image to image embeddings, one position for a patch of 42.67 pixels a side."""

    def __init__(self) -> None:
        super().__init__()
        self.components = nn.Conv2d(3, STAGE_C_CHANNELS, STRIDE, stride=STRIDE)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> image embeddings [batch, 16, h, w] as Stage C returns them."""
        return self.components(_input(images)) * EMBEDDING_SCALE - EMBEDDING_SHIFT


def _input(images: Tensor) -> Tensor:
    """Resize [batch, 3, height, width] to whole patches, one for each position of Stage C."""
    size = [ceil(side / PIXELS_PER_STAGE_C) * STRIDE for side in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


@torch.no_grad()
def fit_compressor(batches: Iterable[Tensor]) -> SemanticCompressor:
    """A compressor whose output has zero mean, unit variance and no correlation over the patches of `batches`.

    Args:
        batches: images [batch, 3, height, width] in 0..1.
    """
    values = 3 * STRIDE * STRIDE
    count, total, products = 0, torch.zeros(values, dtype=torch.float64), torch.zeros(values, values)
    for images in batches:
        patches = F.unfold(_input(images), STRIDE, stride=STRIDE).transpose(1, 2).flatten(0, 1)
        count += len(patches)
        total += patches.double().sum(dim=0)
        products += patches.T @ patches
    mean = total / count
    variances, directions = torch.linalg.eigh(products.double() / count - torch.outer(mean, mean))
    components = directions.T[-STAGE_C_CHANNELS:].flip(0) / variances[-STAGE_C_CHANNELS:].flip(0).sqrt()[:, None]
    # An eigenvector's sign is arbitrary; here its largest entry is positive.
    components *= components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
    compressor = SemanticCompressor()
    compressor.components.weight.copy_(components.view_as(compressor.components.weight))
    compressor.components.get_parameter("bias").copy_(-components @ mean)
    return compressor.eval()
