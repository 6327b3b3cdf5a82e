"""One run of a whole model: what all pipelines check, load and do alike."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..checkpoints.components import IMAGE_ENCODER
from ..checkpoints.loading import (
    Device,
    load_image_encoder,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
)
from ..checkpoints.presets import DEFAULT_SEED, DEFAULT_STEPS, family, preset, size_warnings
from ..checkpoints.sources import locate
from ..errors import InputError
from ..geometry import Size
from ..networks.image_encoder import ImageEncoder
from ..networks.stage_a import StageA
from ..sampling import Callback, Step
from ..schedule import SCHEDULES, v2_timesteps, whole_steps
from ..stages import decode_stage_a, sample_stage_b, sample_stage_c
from .advice import warn
from .pixels import to_picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..text.chunks import Embedding

Progress = Callable[[str, Step], None]
"""Function called after each step with "C" or "B" and the step. It may raise an exception to cancel the run."""


class Run:
    """A run of a model, from text embeddings to images. Arguments as for `generate`.

    Each network is loaded when it is needed, and freed when its work is done.

    Attributes:
        family: Settings that suit the model.
        seeds: One for each image.
    Args:
        reads_pictures: True to check that the image encoder is there, too.
    Raises:
        InputError: An argument is out of range.
        WeightsMissingError: The model is not on this machine.
    """

    def __init__(
        self,
        *,
        reads_pictures: bool,
        strength: float = 1.0,
        model: str = "cocktail",
        seed: int = DEFAULT_SEED,
        batch_size: int = 1,
        steps: int = DEFAULT_STEPS,
        guidance_scale: float | None = None,
        stage_b_steps: int | None = None,
        stage_b_guidance_scale: float | None = None,
        weights: bool = False,
        embeddings: "Mapping[str, Embedding] | None" = None,
        device: Device = "cpu",
        dtype: torch.dtype | None = None,
        download: bool = False,
        callback: Progress | None = None,
    ) -> None:
        places, suits = preset(model), family(model)
        if type(batch_size) is not int or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}; expected a whole number of at least 1.")
        if type(seed) is not int:
            raise InputError(f"seed is {seed!r}; expected a whole number.")
        self.family = suits
        self.seeds = [seed + i for i in range(batch_size)]
        self._model, self._device, self._dtype, self._download = model, device, dtype, download
        # Not every part can be kept in eight bits.
        self._dtype_of_text = None if dtype == torch.float8_e4m3fn else dtype
        self._dtype_of_stage_a = None if dtype in (torch.float8_e4m3fn, torch.int8) else dtype
        self._strength = strength
        self._stage_c_timesteps = v2_timesteps(whole_steps(steps, strength))
        self._stage_b_timesteps = SCHEDULES[suits.stage_b_schedule](
            suits.stage_b_steps if stage_b_steps is None else stage_b_steps
        )
        self._guidance_scale = suits.stage_c_guidance_scale if guidance_scale is None else guidance_scale
        self._stage_b_guidance_scale = (
            suits.stage_b_guidance_scale if stage_b_guidance_scale is None else stage_b_guidance_scale
        )
        self._reads, self._embeddings, self._callback = weights, embeddings, callback
        for part in places:
            if reads_pictures or part != IMAGE_ENCODER.part:
                locate(model, part, download=download)

    def warn_of(self, size: Size) -> None:
        """Warn of a size that the model was not trained on, or that is cropped."""
        for text in size_warnings(size, self._model):
            warn(text)

    def image_encoder(self) -> ImageEncoder:
        """Load the image encoder, in float32 always: fewer bits would move what it sees by pixels."""
        return load_image_encoder(self._model, device=self._device, dtype=torch.float32, download=self._download)

    def stage_a(self) -> StageA:
        """Load Stage A."""
        return load_stage_a(self._model, device=self._device, dtype=self._dtype_of_stage_a, download=self._download)

    def sample_stage_c(
        self,
        size: Size,
        prompt: str,
        negative_prompt: str,
        start: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return image embeddings for a prompt, from noise or from a `start`; see `stages.sample_stage_c`."""
        texts = [prompt, negative_prompt] if self._guidance_scale > 1 else [prompt]
        positive, *negative = self._encode("C", texts)
        return sample_stage_c(
            load_stage_c(self._model, device=self._device, dtype=self._dtype, download=self._download),
            positive,
            *negative,
            width=size.width,
            height=size.height,
            seeds=self.seeds,
            timesteps=self._stage_c_timesteps,
            guidance_scale=self._guidance_scale,
            start=start,
            strength=self._strength,
            mask=mask,
            context=self.family.context,
            callback=self._report_as("C"),
        )

    def sample_stage_b(
        self, image_embeddings: Tensor, prompt: str, start: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return Stage A's latents for image embeddings, outside of a mask those of `start`."""
        (positive,) = self._encode("B", [prompt])
        return sample_stage_b(
            load_stage_b(self._model, device=self._device, dtype=self._dtype, download=self._download),
            image_embeddings,
            positive,
            seeds=self.seeds,
            timesteps=self._stage_b_timesteps,
            guidance_scale=self._stage_b_guidance_scale,
            start=start,
            mask=mask,
            callback=self._report_as("B"),
        )

    def decode(self, latents: Tensor, size: Size) -> "list[Image]":
        """Return pictures of latents, cropped to `size`."""
        return [to_picture(pixels, size) for pixels in decode_stage_a(self.stage_a(), latents)]

    def _encode(self, stage: Literal["C", "B"], texts: Sequence[str]) -> list[Tensor]:
        encoder = load_text_encoder(
            self._model, for_stage=stage, device=self._device, dtype=self._dtype_of_text, download=self._download
        )
        if self._reads:
            both = encoder.encode(list(texts), weights=True, embeddings=self._embeddings)
            return [both[index : index + 1] for index in range(len(texts))]
        return [encoder.encode([text]) for text in texts]

    def _report_as(self, stage: str) -> Callback | None:
        return None if self._callback is None else partial(self._callback, stage)
