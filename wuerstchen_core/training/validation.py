"""Validation pictures of a training: the same prompts and seeds at intervals, on one growing sheet."""

import gc
import logging
import struct
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..checkpoints.loading import load_stage_a, load_stage_b, load_text_encoder
from ..checkpoints.presets import family
from ..files.pictures import read_picture
from ..files.untrusted import read_bytes
from ..files.writing import replaced_whole
from ..networks.stage_c import StageC
from ..schedule import SCHEDULES
from ..stages import decode_stage_a, sample_stage_b, sample_stage_c

log = logging.getLogger(__name__)

FOLDER, SHEET = "validation", "sheet.png"
SIDE = 256
"""Side in pixels of a picture on the sheet."""
_MARGIN = 24
"""Height in pixels of a line of text on the sheet."""


class Validation:
    """Draws rows of pictures while a network is trained.

    Args:
        out: Folder of the training.
        stage_c: The network that is trained.
        decoder: Preset whose Stages B and A draw the pictures. They are loaded for each row and let go again.
        prompts: Prompts; picture i has the seed i.
        texts (Sequence[Tensor]): [tokens, dim] of each prompt, for Stage C.
        empty (Tensor): [tokens, dim] of the empty prompt.
        size: Width and height in pixels.
        words: Words that the training adds to those that the text encoders know.
    """

    def __init__(
        self,
        out: Path,
        stage_c: StageC,
        decoder: str,
        prompts: Sequence[str],
        texts: Sequence[Tensor],
        empty: Tensor,
        size: tuple[int, int],
        words: tuple[str, ...] = (),
    ) -> None:
        self._folder = out / FOLDER
        self._stage_c, self._decoder = stage_c, decoder
        self._prompts, self._texts, self._empty = prompts, texts, empty
        self._size, self._words = size, words

    def draw(self, step: int, *, again: bool = True) -> None:
        """Draw the row of a step, and the sheet of all rows.

        Args:
            step: Steps done.
            again: Whether a row that is there is drawn again.
        """
        if not self._prompts:
            return
        target = self._folder / f"step_{step:06}.png"
        if again or not target.is_file():
            images = self._images()
            row = Image.new("RGB", (SIDE * len(images), SIDE + _MARGIN), "white")
            ImageDraw.Draw(row).text((6, 6), f"step {step}", fill="black")
            for column, image in enumerate(images):
                row.paste(image, (column * SIDE, _MARGIN))
            self._save(row, target)
        self._write_sheet()
        log.info("step %d: %s", step, self._folder / SHEET)

    def _write_sheet(self) -> None:
        width, top = SIDE * len(self._prompts), 3 * _MARGIN
        found = [_read(path, (width, SIDE + _MARGIN)) for path in sorted(self._folder.glob("step_*.png"))]
        rows = [row for row in found if row is not None]
        sheet = Image.new("RGB", (width, top + sum(row.height for row in rows)), "white")
        for column, prompt in enumerate(self._prompts):
            lines = textwrap.wrap(prompt, 38, max_lines=4, placeholder=" ...")
            ImageDraw.Draw(sheet).text((column * SIDE + 6, 6), "\n".join(lines), fill="black")
        for row in rows:
            sheet.paste(row, (0, top))
            top += row.height
        self._save(sheet, self._folder / SHEET)

    @torch.no_grad()
    def _images(self) -> list[Image.Image]:
        suits, device = family(self._decoder), next(self._stage_c.parameters()).device
        self._stage_c.eval()
        seeds = list(range(len(self._prompts)))
        embeddings = sample_stage_c(
            self._stage_c,
            torch.stack(list(self._texts)),
            self._empty[None],
            width=self._size[0],
            height=self._size[1],
            seeds=seeds,
            guidance_scale=suits.stage_c_guidance_scale,
            device=device,
        )
        encoder = load_text_encoder(self._decoder, for_stage="B")
        encoder.added_words = self._words
        text = encoder.encode(list(self._prompts))
        stage_b = load_stage_b(self._decoder, device=device)
        timesteps = SCHEDULES[suits.stage_b_schedule](suits.stage_b_steps)
        latents = sample_stage_b(
            stage_b,
            embeddings,
            text,
            seeds=seeds,
            timesteps=timesteps,
            guidance_scale=suits.stage_b_guidance_scale,
            device=device,
        )
        del stage_b
        pixels = decode_stage_a(load_stage_a(self._decoder, device=device), latents)
        gc.collect()
        arrays = (pixels.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
        return [Image.fromarray(array).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for array in arrays]

    @staticmethod
    def _save(image: Image.Image, path: Path) -> None:
        with replaced_whole(path) as partial:
            image.save(partial, format="PNG")


def _read(path: Path, size: tuple[int, int]) -> Image.Image | None:
    """Return the row in a file; None where it is no picture of that size, as after another number of prompts."""
    try:
        data = read_bytes(path, 4 * size[0] * size[1])
        if data[16:24] != struct.pack(">II", *size):  # the size in the header of a PNG: nothing larger is unpacked
            return None
        return read_picture(data).convert("RGB")
    except (OSError, ValueError):
        return None
