"""Examines cocktail on scenes it was never trained on.

    python tests/exam.py [--count 200] [--model cocktail] [--size 256 256] [--sheet FILE.png]

prints which share of the pictures got each part right; the tests hold the same function to the design's figures.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from support.judge import Verdict, judge
from wuerstchen_core import (
    decode_stage_a,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    sample_stage_b,
    sample_stage_c,
)
from wuerstchen_core.checkpoints.presets import stage_b_guidance
from wuerstchen_core.training.world import Scene, random_scene, triples

PARTS = ("colour", "background", "shape", "outline", "position")
BATCH = 20


def scenes(count: int) -> list[Scene]:
    """`count` held-out scenes, every triple about as often, with random sizes and places."""
    rng = np.random.default_rng(2023)
    held_out = triples(held_out=True)
    order = [held_out[i % len(held_out)] for i in rng.permutation(count)]
    return [random_scene(rng, [scene]) for scene in order]


def pictures(asked: list[Scene], model: str, width: int, height: int) -> Iterator[NDArray[np.float32]]:
    """A picture [height, width, 3] in 0..1 for each scene, with the settings of the bundled workflow; seed i for i."""
    text_c, text_b = load_text_encoder(model, for_stage="C"), load_text_encoder(model, for_stage="B")
    stage_c, stage_b, stage_a = load_stage_c(model), load_stage_b(model), load_stage_a(model)
    for start in range(0, len(asked), BATCH):
        prompts = [scene.caption for scene in asked[start : start + BATCH]]
        seeds = list(range(start, start + len(prompts)))
        embeddings = sample_stage_c(
            stage_c, text_c.encode(prompts), text_c.encode([""]), width=width, height=height, seeds=seeds
        )
        latents = sample_stage_b(
            stage_b, embeddings, text_b.encode(prompts), seeds=seeds, guidance_scale=stage_b_guidance(model)
        )
        yield from decode_stage_a(stage_a, latents).permute(0, 2, 3, 1).numpy()


def examine(count: int, model: str = "cocktail", width: int = 256, height: int = 256) -> dict[str, float]:
    """Share of pictures that got each part right, of those where it was asked for."""
    asked = scenes(count)
    drawn = pictures(asked, model, width, height)
    return shares([judge(picture, scene) for picture, scene in zip(drawn, asked, strict=True)])


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
    parser.add_argument("--sheet", help="save the first 48 pictures side by side")
    arguments = parser.parse_args()
    asked = scenes(arguments.count)
    drawn = list(pictures(asked, arguments.model, *arguments.size))
    verdicts = [judge(picture, scene) for picture, scene in zip(drawn, asked, strict=True)]
    for scene, verdict in zip(asked, verdicts, strict=True):
        wrong = [part for part in PARTS if getattr(verdict, part) is False]
        if wrong:
            print(f"{scene.caption}: wrong {', '.join(wrong)}")
    for part, share in shares(verdicts).items():
        print(f"{part:>12}: {share:.1%}")
    if arguments.sheet:
        rows = [np.concatenate(drawn[i : i + 8], axis=1) for i in range(0, min(48, len(drawn) // 8 * 8), 8)]
        Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(arguments.sheet)


if __name__ == "__main__":
    main()
