# pyright: reportUnknownMemberType=false
# torch types manual_seed and from_numpy in part only.
"""The steps that train a whole model, in order. Each uses the results of those before it, and resumes after a kill."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT
from ..networks.cocktail_encoder import CocktailEncoder
from ..networks.stage_a import StageA, StageAConfig
from ..networks.stage_b import StageB, StageBConfig
from ..networks.stage_c import StageC, StageCConfig
from .edges import begin_with_edges
from .image_encoder import ReadingHeads
from .initialise import freeze_mappers, initialise_stage_a, initialise_stage_b, initialise_stage_c
from .loop import LoopConfig, train
from .losses import (
    diffusion_loss,
    features_loss,
    image_encoder_loss,
    random_decoder_ratios,
    random_ratios,
    recolour,
    stage_a_loss,
    worn,
)
from .pictures import EVEN_SIZES, PIECES, Batch, Pictures, batch_of, draw_batch, random_size
from .pool import Encoder, make_pool
from .text import encode, make_text_model, present_words

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

log = logging.getLogger(__name__)

DROP_CAPTION = 0.1
"""Share of captions that are replaced by the empty one, which guidance needs."""
PIECE_OF_STAGE_A = 64
"""Side in pixels of the images that Stage A learns from."""


@dataclass(frozen=True)
class Recipe:
    """Shapes of the networks, lengths of their training, and batches.

    Attributes:
        stage_a: Shape of Stage A.
        stage_b: Shape of Stage B.
        stage_c: Shape of Stage C.
        text_layers: Layers of each text encoder.
        stage_a_loop: Training of Stage A.
        image_encoder_loop: Training of the image encoder.
        stage_b_loop: Training of Stage B.
        stage_c_loop: Training of Stage C.
        finetune_loop: Training of Stage C's finetune.
        stage_a_batch: Pieces in a batch of Stage A.
        image_encoder_batch: Images of 256x256 in a batch of the image encoder; fewer of larger ones.
        stage_b_batch: Images of 256x256 in a batch of Stage B; fewer of larger ones.
        stage_c_batch: Images of 256x256 in a batch of Stage C; fewer of larger ones.
        stage_b_noise: Largest standard deviation of the noise in the embeddings that Stage B sees, in theirs.
        previewer_width: Width of the previewer of Stage C's latents.
        previewer_steps: Steps of its training.
        stage_b_pool: Images encoded for Stage B.
        stage_c_pool: Images encoded for Stage C, and for its finetune.
    """

    stage_a: StageAConfig
    stage_b: StageBConfig
    stage_c: StageCConfig
    text_layers: int
    stage_a_loop: LoopConfig
    image_encoder_loop: LoopConfig
    stage_b_loop: LoopConfig
    stage_c_loop: LoopConfig
    finetune_loop: LoopConfig
    stage_a_batch: int = 16
    image_encoder_batch: int = 16
    stage_b_batch: int = 12
    stage_c_batch: int = 48
    stage_b_noise: float = 0.08
    previewer_width: int = 64
    previewer_steps: int = 3000
    stage_b_pool: int = 30000
    stage_c_pool: int = 30000


def train_stage_a(recipe: Recipe, pictures: Pictures, folder: Path) -> StageA:
    """Train the VQGAN on small pieces of images, since it learns local detail only.

    Args:
        recipe: Shape, length and batch.
        pictures: Source of images.
        folder: Folder to keep progress in.
    """
    torch.manual_seed(0)
    stage_a = StageA(recipe.stage_a)
    initialise_stage_a(stage_a)

    def loss(rng: np.random.Generator) -> Tensor:
        images = draw_batch(pictures, rng, recipe.stage_a_batch, PIECE_OF_STAGE_A, PIECE_OF_STAGE_A).images
        changed = recolour(images[::5])
        return stage_a_loss(stage_a, torch.cat([images, changed]))

    train("stage_a", stage_a, loss, recipe.stage_a_loop, folder)
    return stage_a


def train_image_encoder(
    recipe: Recipe, pictures: Pictures, tokenizer: "CLIPTokenizer", folder: Path
) -> CocktailEncoder:
    """Train the image encoder on images of every size.

    It learns the images' features where they are known, else those that serve to read captions and redraw images.

    Args:
        recipe: Length and batch.
        pictures: Source of images.
        tokenizer: Tokenizer of the captions.
        folder: Folder to keep progress in.
    """
    torch.manual_seed(0)
    image_encoder, heads = CocktailEncoder(), ReadingHeads(len(tokenizer))

    def loss(rng: np.random.Generator) -> Tensor:
        width, height = random_size(rng, EVEN_SIZES)
        count = batch_of(recipe.image_encoder_batch, width, height)
        batch = draw_batch(pictures, rng, count, width, height)
        if batch.features is not None:
            return features_loss(image_encoder, worn(batch.images), batch.features)
        return image_encoder_loss(image_encoder, heads, batch.images, present_words(tokenizer, batch.captions))

    both = nn.ModuleDict({"image_encoder": image_encoder, "heads": heads})
    train("image_encoder", both, loss, recipe.image_encoder_loop, folder)
    return image_encoder


def _embeddings_by(image_encoder: CocktailEncoder) -> Encoder:
    """Return the encoder to image embeddings: the known features where there are any, else the image encoder's."""

    def encode(batch: Batch) -> Tensor:
        if batch.features is not None:
            return batch.features * EMBEDDING_SCALE - EMBEDDING_SHIFT
        return image_encoder(batch.images)

    return encode


def _drop(captions: list[str], rng: np.random.Generator) -> list[str]:
    """Replace a share of captions by the empty one."""
    return ["" if rng.random() < DROP_CAPTION else caption for caption in captions]


def train_stage_b(
    recipe: Recipe,
    pictures: Pictures,
    stage_a: StageA,
    image_encoder: CocktailEncoder,
    tokenizer: "CLIPTokenizer",
    folder: Path,
    start: "tuple[StageB, CLIPTextModel] | None" = None,
) -> tuple[StageB, "CLIPTextModel"]:
    """Train the decoder together with its text encoder.

    The embeddings get a little noise, because those of Stage C will not be perfect either. They are zero for a few of
    the images (the unconditional branch of guidance), and some batches have no text.

    Args:
        recipe: Shape, length and batch.
        pictures: Source of images.
        stage_a: Trained Stage A, which encodes the latents.
        image_encoder: Trained image encoder, which encodes the image embeddings.
        tokenizer: Tokenizer of the captions.
        folder: Folder to keep progress in.
        start: Stage B and text encoder to train further; None for random weights.
    """

    def latents(batch: Batch) -> Tensor:
        return stage_a.encode(batch.images) / recipe.stage_a.scale_factor

    encoders: dict[str, Encoder] = {"latents": latents, "embeddings": _embeddings_by(image_encoder)}
    pool = make_pool(pictures, encoders, recipe.stage_b_pool, folder / "stage_b_pool.pt", seed=1, shares=PIECES)
    torch.manual_seed(1)
    if start is None:
        stage_b = StageB(recipe.stage_b)
        initialise_stage_b(stage_b)
        if pictures.by_formula:
            begin_with_edges(stage_b)
        text_model = make_text_model(tokenizer, recipe.stage_b.clip_embd, recipe.text_layers)
    else:
        stage_b, text_model = start
        freeze_mappers(stage_b)

    def loss(rng: np.random.Generator) -> Tensor:
        tensors, captions = pool.draw(rng, recipe.stage_b_batch)
        embeddings, count = tensors["embeddings"], len(captions)
        noise = torch.from_numpy((rng.random((count, 1, 1, 1)) ** 2 * recipe.stage_b_noise).astype(np.float32))
        embeddings = embeddings + torch.randn_like(embeddings) * noise * EMBEDDING_SCALE
        embeddings = embeddings * torch.from_numpy(rng.random((count, 1, 1, 1)) >= 0.02)
        text = None if rng.random() < 0.4 else encode(tokenizer, text_model, _drop(captions, rng))
        ratios = random_decoder_ratios(rng, count)
        with sdpa_kernel(SDPBackend.MATH):
            return diffusion_loss(
                lambda x, t: stage_b.signal_and_scale(x, t, embeddings, text), tensors["latents"], ratios
            )

    both = nn.ModuleDict({"stage_b": stage_b, "text_model": text_model})
    train("stage_b", both, loss, recipe.stage_b_loop, folder, seed=1)
    return stage_b, text_model


def train_stage_c(
    recipe: Recipe,
    pictures: Pictures,
    image_encoder: CocktailEncoder,
    tokenizer: "CLIPTokenizer",
    folder: Path,
    start: "tuple[StageC, CLIPTextModel] | None" = None,
) -> tuple[StageC, "CLIPTextModel"]:
    """Train the prior together with its text encoder, on the image encoder's embeddings.

    Args:
        recipe: Shape, length and batch.
        pictures: Source of images.
        image_encoder: Trained image encoder.
        tokenizer: Tokenizer of the captions.
        folder: Folder to keep progress in.
        start: Stage C and text encoder to train further; None for random weights.
    """
    torch.manual_seed(2)
    if start is None:
        stage_c = StageC(recipe.stage_c)
        initialise_stage_c(stage_c)
        text_model = make_text_model(tokenizer, recipe.stage_c.c_cond, recipe.text_layers)
    else:
        stage_c, text_model = start
    both = nn.ModuleDict({"stage_c": stage_c, "text_model": text_model})
    _train_prior("stage_c", both, recipe, recipe.stage_c_loop, pictures, image_encoder, tokenizer, folder)
    return stage_c, text_model


def finetune_stage_c(
    recipe: Recipe,
    pictures: Pictures,
    base: StageC,
    text_model: "CLIPTextModel",
    image_encoder: CocktailEncoder,
    tokenizer: "CLIPTokenizer",
    folder: Path,
) -> StageC:
    """Train a copy of Stage C on other images. The text encoder is frozen, so that the two can be interpolated.

    Args:
        recipe: Shape, length and batch.
        pictures: Source of images.
        base: Trained Stage C; it is not changed.
        text_model: Its text encoder.
        image_encoder: Trained image encoder.
        tokenizer: Tokenizer of the captions.
        folder: Folder to keep progress in.
    """
    stage_c = StageC(base.config)
    stage_c.load_state_dict(base.state_dict())
    both = nn.ModuleDict({"stage_c": stage_c, "text_model": text_model.requires_grad_(False)})
    _train_prior("finetune", both, recipe, recipe.finetune_loop, pictures, image_encoder, tokenizer, folder)
    return stage_c


def _train_prior(
    name: str,
    both: nn.ModuleDict,
    recipe: Recipe,
    loop: LoopConfig,
    pictures: Pictures,
    image_encoder: CocktailEncoder,
    tokenizer: "CLIPTokenizer",
    folder: Path,
) -> None:
    encoders: dict[str, Encoder] = {"embeddings": _embeddings_by(image_encoder)}
    pool = make_pool(pictures, encoders, recipe.stage_c_pool, folder / f"{name}_pool.pt", seed=2)
    stage_c, text_model = cast(StageC, both["stage_c"]), both["text_model"]

    def loss(rng: np.random.Generator) -> Tensor:
        tensors, captions = pool.draw(rng, recipe.stage_c_batch)
        clean = (tensors["embeddings"] + EMBEDDING_SHIFT) / EMBEDDING_SCALE
        captions = _drop(captions, rng)
        text = encode(tokenizer, text_model, captions)
        # Without a negative prompt, sampling uses zeros; they have to mean the same as an empty caption.
        empty = torch.from_numpy(np.array([not c for c in captions]) & (rng.random(len(captions)) < 0.5))
        text = text.masked_fill(empty.view(-1, 1, 1), 0)
        with sdpa_kernel(SDPBackend.MATH):
            return diffusion_loss(
                lambda x, t: stage_c.signal_and_scale(x, t, text), clean, random_ratios(rng, len(captions))
            )

    train(name, both, loss, loop, folder, seed=2)
