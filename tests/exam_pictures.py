"""Examines what cocktail makes of pictures: round trips, image to image, inpainting and variations.

    python tests/exam_pictures.py [--count 100] [--sheet FILE.png]

The pictures show held-out scenes of both styles. The tests hold the same function to the design's figures.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from exam import BATCH, decoded, scenes
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from support.judge import judge, read
from wuerstchen_core import (
    decode_stage_a,
    encode_stage_a,
    encode_stage_c,
    load_image_encoder,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    sample_stage_b,
    sample_stage_c,
    v2_timesteps,
)
from wuerstchen_core.checkpoints.presets import family
from wuerstchen_core.schedule import SCHEDULES, whole_steps
from wuerstchen_core.training.world import COLOURS, Scene, draw, random_layout, triples

MODEL = "cocktail"
NEAR = 0.04
"""Largest distance of two figures at the same place, as a share of the side."""
WIDE = (384, 256)
"""Width and height of pictures with room for a second figure."""
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """Pictures before and after, and the share of them that is as it should be, by part.

    Attributes:
        before: Each [height, width, 3] in 0..1.
        after: The same.
        shares: Part -> share, 0..1.
    """

    before: list[Picture]
    after: list[Picture]
    shares: dict[str, float]


class _Model:
    """cocktail's networks, with the settings that suit it."""

    def __init__(self) -> None:
        self.encoder, self.suits = load_image_encoder(MODEL), family(MODEL)
        self.stage_c, self.stage_b, self.stage_a = load_stage_c(MODEL), load_stage_b(MODEL), load_stage_a(MODEL)
        self.text_c, self.text_b = load_text_encoder(MODEL, for_stage="C"), load_text_encoder(MODEL, for_stage="B")

    def sample(self, start: Tensor, prompts: list[str], seeds: list[int], strength: float, **more: object) -> Tensor:
        height, width = (side // 3 * 128 for side in start.shape[-2:])
        guidance = self.suits.stage_c_guidance_scale if any(prompts) else 1.0
        return sample_stage_c(
            self.stage_c,
            self.text_c.encode(prompts),
            self.text_c.encode([""]),
            width=width,
            height=height,
            seeds=seeds,
            timesteps=v2_timesteps(whole_steps(29, strength)),
            guidance_scale=guidance,
            start=start,
            strength=strength,
            **more,  # pyright: ignore[reportArgumentType]
        )

    def redraw(self, images: Tensor, prompts: list[str], seeds: list[int], strength: float) -> Tensor:
        embeddings = self.sample(encode_stage_c(self.encoder, images), prompts, seeds, strength)
        return self.decode(embeddings, prompts, seeds)

    def decode(self, embeddings: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        latents = decoded(self.stage_b, embeddings, self.text_b.encode(prompts), seeds, MODEL)
        return decode_stage_a(self.stage_a, latents)

    def inpaint(self, images: Tensor, mask: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        embeddings = self.sample(
            encode_stage_c(self.encoder, images), prompts, seeds, 1.0, mask=mask, context=self.suits.context
        )
        latents = sample_stage_b(
            self.stage_b,
            embeddings,
            self.text_b.encode(prompts),
            seeds=seeds,
            timesteps=SCHEDULES[self.suits.stage_b_schedule](self.suits.stage_b_steps),
            start=encode_stage_a(self.stage_a, images),
            mask=mask,
        )
        return torch.where(mask > 0, decode_stage_a(self.stage_a, latents), images)


def _drawn(asked: list[Scene], width: int = 256, height: int = 256) -> list[Picture]:
    rng = np.random.default_rng(31)
    layouts = [random_layout(scene, width, height, rng) for scene in asked]
    return [
        draw(scene, layout, "aesthetic" if i % 3 == 0 else "flat")
        for i, (scene, layout) in enumerate(zip(asked, layouts, strict=True))
    ]


def _in_batches(
    pictures: list[Picture], prompts: list[str], change: Callable[[Tensor, list[str], list[int]], Tensor]
) -> list[Picture]:
    found: list[Picture] = []
    for start in range(0, len(pictures), BATCH):
        part = slice(start, start + BATCH)
        images = torch.from_numpy(np.stack(pictures[part])).movedim(-1, 1)
        result = change(images, prompts[part], list(range(len(pictures)))[part])
        found += list(result.movedim(1, -1).numpy())
    return found


def _is_near(one: Picture, other: Picture) -> bool:
    """Return whether the figures of two pictures are at the same place, within `NEAR`."""
    here, there = read(one), read(other)
    if here is None or there is None:
        return False
    ends = (("left", "right"), ("top", "bottom"))
    shifts = [(here.gaps[a] - here.gaps[b] - there.gaps[a] + there.gaps[b]) / 2 for a, b in ends]
    return max(map(abs, shifts)) <= NEAR


def _shares(before: list[Picture], after: list[Picture], expected: list[Scene]) -> dict[str, float]:
    verdicts = [judge(picture, replace(scene, position=None)) for picture, scene in zip(after, expected, strict=True)]
    places = [_is_near(*pair) for pair in zip(before, after, strict=True)]
    return {
        "colours": float(np.mean([verdict.colour and verdict.background for verdict in verdicts])),
        "shape": float(np.mean([verdict.shape for verdict in verdicts])),
        "place": float(np.mean(places)),
    }


def round_trip(count: int) -> Result:
    """Encode pictures and decode the embeddings, without a prompt."""
    model, asked = _Model(), scenes(count)
    before = _drawn(asked)
    after = _in_batches(before, [""] * count, lambda x, p, s: model.decode(encode_stage_c(model.encoder, x), p, s))
    return Result(before, after, _shares(before, after, asked))


def image_to_image(count: int, strength: float = family(MODEL).image_strength) -> Result:
    """Redraw pictures after a prompt that names another colour, but no place."""
    model, asked = _Model(), scenes(count)
    rng = np.random.default_rng(7)
    others = [[name for name in COLOURS if name not in (scene.colour, scene.background)] for scene in asked]
    wanted = [replace(scene, colour=str(rng.choice(names))) for scene, names in zip(asked, others, strict=True)]
    before = _drawn(asked)
    prompts = [scene.caption for scene in wanted]
    after = _in_batches(before, prompts, lambda x, p, s: model.redraw(x, p, s, strength))
    return Result(before, after, _shares(before, after, wanted))


def variations(count: int, strength: float = family(MODEL).vary_strength) -> Result:
    """Vary pictures without a prompt."""
    model, asked = _Model(), scenes(count)
    before = _drawn(asked)
    after = _in_batches(before, [""] * count, lambda x, p, s: model.redraw(x, p, s, strength))
    different = [bool(np.abs(a - b).max() > 0.1) for a, b in zip(before, after, strict=True)]
    return Result(before, after, {**_shares(before, after, asked), "different": float(np.mean(different))})


def inpainting(count: int) -> Result:
    """Draw a second figure into the empty right half of pictures with one at the left."""
    model, held_out = _Model(), triples(held_out=True)
    rng = np.random.default_rng(3)
    first, second = [], []
    for scene in scenes(count):
        beside = [each for each in held_out if each.background == scene.background and each.colour != scene.colour]
        first.append(replace(scene, size="small", position="left"))
        second.append(replace(beside[rng.integers(len(beside))], size="small", position="right"))
    before = _drawn(first, *WIDE)
    middle = WIDE[0] // 2
    mask = torch.zeros(1, 1, WIDE[1], WIDE[0])
    mask[..., middle:] = 1
    after = _in_batches(before, [scene.caption for scene in second], lambda x, p, s: model.inpaint(x, mask, p, s))
    verdicts = [
        judge(picture[:, middle:], replace(scene, position=None)) for picture, scene in zip(after, second, strict=True)
    ]
    untouched = [np.array_equal(a[:, :middle], b[:, :middle]) for a, b in zip(before, after, strict=True)]
    there = [verdict.colour and verdict.background and verdict.shape for verdict in verdicts]
    return Result(before, after, {"second there": float(np.mean(there)), "first untouched": float(np.mean(untouched))})


EXAMS: dict[str, Callable[[int], Result]] = {
    "round trip": round_trip,
    "image to image": image_to_image,
    "inpainting": inpainting,
    "variations": variations,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--sheet", help="save the first eight pictures of each part, before and after")
    arguments = parser.parse_args()
    rows = []
    for name, exam in EXAMS.items():
        result = exam(arguments.count)
        print(f"{name}: {', '.join(f'{part} {share:.1%}' for part, share in result.shares.items())}", flush=True)
        for pictures in (result.before, result.after):
            row = np.ones((WIDE[1], 8 * WIDE[0], 3), np.float32)
            shown = np.concatenate(pictures[:8], axis=1)
            row[:, : shown.shape[1]] = shown
            rows.append(row)
    if arguments.sheet:
        Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(arguments.sheet)


if __name__ == "__main__":
    main()
