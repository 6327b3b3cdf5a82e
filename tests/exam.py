"""Examines cocktail on scenes it was never trained on.

    python tests/exam.py [--count 200] [--model cocktail] [--size 256 256] [--dtype int8] [--sheet FILE.png]
    python tests/exam.py --stages [--count 48] [--sheet FILE.png]

prints which share of the pictures got each part right, "outline" being the stricter judgement of the shape; the tests
hold the same function to the design's figures. With --stages it prints how well Stage A, and Stages B and A together
from the true embeddings, redraw such scenes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from support.judge import Verdict, judge
from wuerstchen_core import (
    apply_lora,
    decode_stage_a,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    sample_stage_b,
    sample_stage_c,
)
from wuerstchen_core.checkpoints.lora import Lora
from wuerstchen_core.checkpoints.presets import family
from wuerstchen_core.geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT
from wuerstchen_core.networks.stage_b import StageB
from wuerstchen_core.schedule import SCHEDULES
from wuerstchen_core.training.fields import features as true_features
from wuerstchen_core.training.world import POSITIONS, Scene, Style, draw, random_layout, random_scene, triples

PARTS = ("colour", "background", "shape", "outline", "position")
BATCH = 20


def scenes(count: int, model: str = "cocktail") -> list[Scene]:
    """`count` held-out scenes, every triple about as often, of random sizes and places that the model has words for."""
    rng = np.random.default_rng(2023)
    held_out = triples(held_out=True)
    order = [held_out[i % len(held_out)] for i in rng.permutation(count)]
    text = load_text_encoder(model, for_stage="C")
    first = held_out[0]
    known = [position for position in POSITIONS if not text.unknown_words(replace(first, position=position).caption)]
    return [random_scene(rng, [scene], positions=known) for scene in order]


def pictures(
    asked: list[Scene],
    model: str,
    width: int,
    height: int,
    lora: Lora | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[NDArray[np.float32]]:
    """A picture [height, width, 3] in 0..1 for each scene, with the settings of the bundled workflow; seed i for i."""
    text_c, text_b = (load_text_encoder(model, for_stage=stage, dtype=dtype) for stage in ("C", "B"))
    stage_c, stage_b, stage_a = load_stage_c(model, dtype=dtype), load_stage_b(model, dtype=dtype), load_stage_a(model)
    if lora is not None:
        stage_c, text_c.added_words, text_b.added_words = apply_lora(stage_c, lora), lora.words, lora.words
    for start in range(0, len(asked), BATCH):
        prompts = [scene.caption for scene in asked[start : start + BATCH]]
        seeds = list(range(start, start + len(prompts)))
        embeddings = sample_stage_c(
            stage_c,
            text_c.encode(prompts),
            text_c.encode([""]),
            width=width,
            height=height,
            seeds=seeds,
            guidance_scale=family(model).stage_c_guidance_scale,
        )
        latents = decoded(stage_b, embeddings, text_b.encode(prompts), seeds, model)
        yield from decode_stage_a(stage_a, latents).permute(0, 2, 3, 1).numpy()


def decoded(stage_b: StageB, embeddings: Tensor, text: Tensor, seeds: list[int], model: str) -> Tensor:
    """Stage B's latents with the settings that suit the model."""
    suits = family(model)
    timesteps = SCHEDULES[suits.stage_b_schedule](suits.stage_b_steps)
    scale = suits.stage_b_guidance_scale
    return sample_stage_b(stage_b, embeddings, text, seeds=seeds, timesteps=timesteps, guidance_scale=scale)


def examine(
    count: int, model: str = "cocktail", width: int = 256, height: int = 256, lora: Lora | None = None
) -> dict[str, float]:
    """Share of pictures that got each part right, of those where it was asked for."""
    asked = scenes(count, model)
    drawn = pictures(asked, model, width, height, lora)
    return shares([judge(picture, scene) for picture, scene in zip(drawn, asked, strict=True)])


class Redrawn(NamedTuple):
    """Scenes, and what the later stages make of them: each [count, 3, 256, 256] in 0..1."""

    scenes: list[Scene]
    images: Tensor
    by_stage_a: Tensor
    by_stages_b_and_a: Tensor


def redraw(count: int) -> Redrawn:
    """Redraw held-out scenes of both styles with cocktail, from the images' latents and from the scenes' features."""
    model = "cocktail"
    rng = np.random.default_rng(2024)
    asked = scenes(count, model)
    layouts = [random_layout(scene, 256, 256, rng) for scene in asked]
    styles: list[Style] = ["aesthetic" if i % 3 == 0 else "flat" for i in range(count)]
    world = list(zip(asked, layouts, styles, strict=True))
    images = torch.from_numpy(np.stack([draw(*each) for each in world])).permute(0, 3, 1, 2)
    features = np.stack([true_features(*each) for each in world])
    embeddings = torch.from_numpy(features) * EMBEDDING_SCALE - EMBEDDING_SHIFT
    stage_a, stage_b, text = load_stage_a(model), load_stage_b(model), load_text_encoder(model, for_stage="B")
    redrawn, drawn = [], []
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        latents = stage_a.encode(images[part]) / stage_a.config.scale_factor
        redrawn.append(decode_stage_a(stage_a, latents))
        prompts, seeds = [scene.caption for scene in asked[part]], list(range(count))[part]
        sampled = decoded(stage_b, embeddings[part], text.encode(prompts), seeds, model)
        drawn.append(decode_stage_a(stage_a, sampled))
    return Redrawn(asked, images, torch.cat(redrawn), torch.cat(drawn))


def decibels(images: Tensor, others: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB: [count]."""
    return -10 * (images - others).square().mean(dim=(1, 2, 3)).log10()


def shares(verdicts: list[Verdict]) -> dict[str, float]:
    """Mean of each part of the verdicts, where there is one."""
    result: dict[str, float] = {}
    for part in PARTS:
        values = [value for value in (getattr(verdict, part) for verdict in verdicts) if value is not None]
        result[part] = float(np.mean(values))
    result["both colours"] = float(np.mean([verdict.colour and verdict.background for verdict in verdicts]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--model", default="cocktail")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "int8"], default="float32")
    parser.add_argument("--stages", action="store_true", help="redraw scenes stage by stage")
    parser.add_argument("--sheet", help="save the first 48 pictures side by side")
    arguments = parser.parse_args()
    if arguments.stages:
        drawn = _report_stages(redraw(arguments.count))
    else:
        asked, dtype = scenes(arguments.count, arguments.model), getattr(torch, arguments.dtype)
        width, height = arguments.size
        drawn = _report_exam(asked, arguments.model, width, height, dtype)
    if arguments.sheet:
        rows = [np.concatenate(drawn[i : i + 8], axis=1) for i in range(0, min(48, len(drawn) // 8 * 8), 8)]
        Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(arguments.sheet)


def _report_exam(
    asked: list[Scene], model: str, width: int, height: int, dtype: torch.dtype
) -> list[NDArray[np.float32]]:
    """Print the shares, and the prompts that went wrong. Return the pictures."""
    drawn = list(pictures(asked, model, width, height, dtype=dtype))
    verdicts = [judge(picture, scene) for picture, scene in zip(drawn, asked, strict=True)]
    for scene, verdict in zip(asked, verdicts, strict=True):
        wrong = [part for part in PARTS if getattr(verdict, part) is False]
        if wrong:
            print(f"{scene.caption}: wrong {', '.join(wrong)}")
    for part, share in shares(verdicts).items():
        print(f"{part:>12}: {share:.1%}")
    return drawn


def _report_stages(redrawn: Redrawn) -> list[NDArray[np.float32]]:
    """Print the ratios of both ways. Return the pictures of Stages B and A."""
    small = torch.tensor([scene.size == "small" for scene in redrawn.scenes])
    for name, others in (("Stage A", redrawn.by_stage_a), ("Stages B and A", redrawn.by_stages_b_and_a)):
        ratios = decibels(redrawn.images, others)
        print(
            f"{name}: {ratios.median():.1f} dB in the median, {ratios[small].median():.1f} for small figures, "
            f"{ratios.min():.1f} to {ratios.max():.1f}"
        )
    return list(redrawn.by_stages_b_and_a.permute(0, 2, 3, 1).numpy())


if __name__ == "__main__":
    main()
