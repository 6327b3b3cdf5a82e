"""Heads of the image encoder in training, which read its embeddings.

The published encoder was pretrained to classify photographs. Where a small one has no features to learn from, it is
trained on the captions: one head has to read their words from its output, another one has to decode the image from an
enlarged map, the form in which Stage B will see it. Embeddings that both can read are smooth in space, so a small error
in them is a small change of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import STAGE_C_CHANNELS
from ..networks.blocks import ResBlock

ENLARGED = 3
"""Positions of the redrawing head along one position of the encoder; each becomes 4x4 pixels."""


class ReadingHeads(nn.Module):
    """Two heads: one reads the caption's words, the other one decodes the image.

    Args:
        words: Size of the vocabulary.
        width: Width of the decoding head.
    """

    def __init__(self, words: int, width: int = 64) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(STAGE_C_CHANNELS, 2 * width, kernel_size=1), nn.GELU())
        self.tell = nn.Linear(width * 4, words)
        self.redraw = nn.Sequential(
            nn.Conv2d(STAGE_C_CHANNELS, width, kernel_size=1),
            ResBlock(width),
            ResBlock(width),
            nn.Conv2d(width, 3 * 4**2, kernel_size=1),
            nn.PixelShuffle(4),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Read words and image from features.

        Args:
            features (Tensor): [batch, 16, h, w].
        Returns:
            tuple[Tensor, Tensor]: Logits of the words [batch, words], and images [batch, 3, 12h, 12w], about 0..1.
        """
        seen = self.look(features)
        words = self.tell(torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1))
        size = [side * ENLARGED for side in features.shape[-2:]]
        enlarged = F.interpolate(features, size=size, mode="bicubic", antialias=True, align_corners=True)
        return words, self.redraw(enlarged.contiguous(memory_format=torch.channels_last))
