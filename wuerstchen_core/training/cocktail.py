"""Train `cocktail`, the embedded model, or a model of its shape on a folder of captioned images.

    python -m wuerstchen_core.training.cocktail --out DIR [--pictures FOLDER] [--start cocktail] [--only PART]

Progress is kept in DIR; the same command continues after a kill. With --only, parts that do not need each other
(stage_a and image_encoder, then stage_b and stage_c) can be trained at the same time in separate processes. Without it
the finished checkpoints are written in the diffusers layout to DIR/checkpoints.
"""

import argparse
import logging
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from ..checkpoints.loading import load_image_encoder, load_stage_a, load_stage_b, load_stage_c
from ..checkpoints.saving import save_image_encoder, save_stage_c
from ..errors import InputError, WuerstchenError
from ..networks.cocktail_encoder import CocktailEncoder
from ..networks.stage_a import StageA, StageAConfig
from ..networks.stage_b import StageB, StageBConfig
from ..networks.stage_c import StageC, StageCConfig
from ..weights.merging import interpolate
from . import recipe as steps
from .export import STORED, export_decoder, export_prior
from .loop import LoopConfig
from .pictures import FolderPictures, Pictures, WorldPictures
from .previews import fit_colours, train_previewer
from .recipe import Recipe
from .text import load_or_make_tokenizer, load_text_model

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

SHIPPED = Path(__file__).resolve().parents[1] / "cocktail"
"""Folder of the checkpoints that come with the package."""
COCKTAIL = Recipe(
    stage_a=StageAConfig(embed_dim=96, bottleneck_blocks=4, num_vq_embeddings=512),
    stage_b=StageBConfig(
        c_cond=64,
        c_hidden=(128, 128),
        nhead=(-1, 2),
        blocks=(4, 1),
        level_config=("CT", "CTA"),
        inject_effnet=(True, True),
        clip_embd=128,
        dropout=0.0,
    ),
    stage_c=StageCConfig(c=128, c_cond=128, depth=8, nhead=2, dropout=0.0),
    text_layers=2,
    stage_a_loop=LoopConfig(3000, 2e-3, ema_decay=0.99),
    image_encoder_loop=LoopConfig(14000, 2e-3, ema_decay=0.998, autocast=False),
    stage_b_loop=LoopConfig(15000, 2e-3, ema_decay=0.998),
    stage_c_loop=LoopConfig(9000, 1e-3, ema_decay=0.998),
    finetune_loop=LoopConfig(500, 5e-4, warmup=50, ema_decay=0.99),
)
"""Recipe for training from random weights."""
FURTHER = replace(
    COCKTAIL,
    stage_b_loop=LoopConfig(5000, 5e-4, ema_decay=0.998),
    stage_c_loop=LoopConfig(8000, 6e-4, ema_decay=0.998),
)
"""Recipe for training existing weights further."""


class Training:
    """One training run. Each part is trained on first access, after the parts it needs, or loaded if finished.

    Args:
        folder: Folder to keep progress in.
        pictures: Images for the image encoder and Stages A and B: every style.
        base_pictures: Images for Stage C.
        aesthetic_pictures: Images for the finetune of Stage C.
        recipe: Shapes and lengths; None for `COCKTAIL`, or for `FURTHER` with `start`.
        start: Folder of checkpoints from `export` to continue from. Stage A, the image encoder and the tokenizer are
            taken as they are, the others are trained further. None trains everything from random weights.
    """

    def __init__(
        self,
        folder: Path,
        pictures: Pictures,
        base_pictures: Pictures,
        aesthetic_pictures: Pictures,
        recipe: Recipe | None = None,
        start: Path | None = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe or (COCKTAIL if start is None else FURTHER)
        self._pictures = pictures
        self._base_pictures = base_pictures
        self._aesthetic_pictures = aesthetic_pictures
        self._start = start

    @cached_property
    def tokenizer(self) -> "CLIPTokenizer":
        """Tokenizer of both text encoders."""
        known = self.folder if self._start is None else self._start / "wuerstchen-prior"
        return load_or_make_tokenizer(self._pictures.captions(), known / "tokenizer")

    @cached_property
    def stage_a(self) -> StageA:
        """Trained Stage A."""
        if self._start is not None:
            return load_stage_a(self._start / "wuerstchen")
        return steps.train_stage_a(self.recipe, self._pictures, self.folder)

    @cached_property
    def image_encoder(self) -> CocktailEncoder:
        """Trained image encoder."""
        if self._start is not None:
            return cast(CocktailEncoder, load_image_encoder(self._start / "image-encoder"))
        return steps.train_image_encoder(self.recipe, self._pictures, self.tokenizer, self.folder)

    @cached_property
    def stage_b(self) -> "tuple[StageB, CLIPTextModel]":
        """Trained Stage B and its text encoder."""
        start = None
        if self._start is not None:
            decoder = self._start / "wuerstchen"
            start = load_stage_b(decoder).requires_grad_(True), load_text_model(decoder / "text_encoder")
        return steps.train_stage_b(
            self.recipe, self._pictures, self.stage_a, self.image_encoder, self.tokenizer, self.folder, start
        )

    @cached_property
    def stage_c(self) -> "tuple[StageC, CLIPTextModel]":
        """Trained Stage C and its text encoder."""
        start = None
        if self._start is not None:
            text_model = load_text_model(self._start / "wuerstchen-prior" / "text_encoder")
            start = load_stage_c(self._start / "prior-base").requires_grad_(True), text_model
        return steps.train_stage_c(
            self.recipe, self._base_pictures, self.image_encoder, self.tokenizer, self.folder, start
        )

    @cached_property
    def aesthetic(self) -> StageC:
        """Finetune of Stage C on the aesthetic images."""
        return steps.finetune_stage_c(
            self.recipe, self._aesthetic_pictures, *self.stage_c, self.image_encoder, self.tokenizer, self.folder
        )

    def export(self, folder: Path) -> None:
        """Write every checkpoint in the diffusers layout. The prior is the 50% interpolation of base and aesthetic.

        Args:
            folder: Folder of the checkpoints; made where there is none.
        """
        stage_c, text_c = self.stage_c
        stage_b, text_b = self.stage_b
        colours = fit_colours(self._pictures, self.image_encoder, self.stage_a)
        stage_c.latent_rgb, stage_b.latent_rgb = colours
        stage_c.previewer = train_previewer(
            self._pictures, self.image_encoder, self.recipe.previewer_width, self.recipe.previewer_steps
        )
        self.aesthetic.latent_rgb, self.aesthetic.previewer = stage_c.latent_rgb, stage_c.previewer
        export_prior(folder / "wuerstchen-prior", interpolate(stage_c, self.aesthetic, 0.5), text_c, self.tokenizer)
        export_decoder(folder / "wuerstchen", stage_b, self.stage_a, text_b, self.tokenizer)
        save_stage_c(stage_c, folder / "prior-base", dtype=STORED)
        save_stage_c(self.aesthetic, folder / "prior-aesthetic", dtype=STORED)
        save_image_encoder(self.image_encoder, folder / "image-encoder", dtype=STORED)


PARTS = ("stage_a", "image_encoder", "stage_b", "stage_c", "aesthetic")
"""Attributes of `Training` that --only may name."""


def main() -> None:
    """Run the command line. An error that a user can cause is one line on stderr, with the exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m wuerstchen_core.training.cocktail", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for progress and checkpoints")
    parser.add_argument("--pictures", type=Path, help="train on this folder of captioned images, not on the world")
    parser.add_argument("--start", help="continue from: cocktail, or the folder of earlier checkpoints")
    parser.add_argument("--only", choices=PARTS, help="train this part (and what it needs), and export nothing")
    parser.add_argument("--threads", type=int, help="processor threads; default all")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        training = _training(arguments)
        if arguments.only:
            getattr(training, arguments.only)
        else:
            training.export(arguments.out / "checkpoints")
    except WuerstchenError as error:
        parser.exit(1, f"error: {error}\n")


def _training(arguments: argparse.Namespace) -> Training:
    """Return the training that the command line asks for.

    Raises:
        InputError: There are no captioned pictures, or no checkpoints to start from.
    """
    start = None
    if arguments.start:
        start = SHIPPED if arguments.start == "cocktail" else Path(arguments.start)
        absent = [name for name in ("wuerstchen-prior", "wuerstchen") if not (start / name).is_dir()]
        if absent:
            raise InputError(
                f"--start is {arguments.start}, which has no folder {absent[0]}; expected cocktail, or the folder "
                "checkpoints of an earlier training."
            )
    if arguments.pictures:
        own = FolderPictures(arguments.pictures)
        return Training(arguments.out, own, own, own, start=start)
    world = partial(WorldPictures, by_formula=arguments.start in (None, "cocktail"))
    # A few words that nobody knows, so that they do not change the rest of the picture.
    flat, aesthetic = world("flat", any_colour=0.15), world("aesthetic", any_colour=0.15)
    # Small figures have the most outline for their size, so half of the images have one.
    every = world("flat", "flat", "aesthetic", sizes=("small", "small", None, "large"), any_colour=0.5)
    return Training(arguments.out, every, flat, aesthetic, start=start)


if __name__ == "__main__":
    main()
