"""Image encoders: networks that give the image embeddings of a picture, which Stage C learns to sample.

The published one is an EfficientNet (`efficientnet.py`), the embedded model's a small network (`cocktail_encoder.py`).
The paper calls them the semantic compressor.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ImageEncoder(nn.Module, ABC):
    """Base of the image encoders, which a caller need not tell apart."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images (Tensor): [batch, 3, height, width] in 0..1, sides in multiples of 128.
        Returns:
            Tensor: [batch, 16, height/42.67, width/42.67], float32, image embeddings in the scale of Stage C's result.
        """

    def _dtype_and_device(self) -> tuple[torch.dtype, torch.device]:
        """Return the dtype and the device of the weights."""
        weight = next(self.parameters())
        return weight.dtype, weight.device
