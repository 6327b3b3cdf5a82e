"""Teaches cocktail a colour that it never saw by a LoRA on 20 pictures, and examines what it then draws.

    python tests/exam_lora.py --out FOLDER [--count 192] [--steps N] [--sheet FILE.png]

draws the pictures, runs `wuerstchen train` on them, and prints which share of pictures of held-out prompts got each
part right: in the new colour, and in those that cocktail knew before. The LoRA that comes with the package was made so.
"""

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from exam import examine, pictures, shares
from PIL import Image

from support.judge import judge
from wuerstchen_core import load_lora
from wuerstchen_core.checkpoints.lora import Lora
from wuerstchen_core.training.world import (
    COLOURS,
    FIGURE_SIZES,
    POSITIONS,
    SHAPES,
    Scene,
    draw,
    random_layout,
    random_scene,
    triples,
)

WORD, RGB = "lime", (150, 225, 40)
PALETTE = {**COLOURS, WORD: RGB}
COUNT = 20
"""Training pictures."""
KEPT = 300
"""Prompts in known colours that are to be drawn as before."""
SETTINGS = {
    **{"--rank": "8", "--layers": "all", "--lr": "1e-3", "--schedule": "cosine"},
    **{"--batch": "16", "--steps": "700", "--precision": "float32"},
}
"""Settings for cocktail. Small networks learn at higher rates than the published ones."""


def training_scenes() -> list[Scene]:
    """Scenes of the training pictures: every shape and every background, two or three times and once or twice."""
    sizes, positions = FIGURE_SIZES[1:], [None, *POSITIONS]
    return [
        Scene(WORD, list(SHAPES)[i % 8], list(COLOURS)[i * 5 % 12], sizes[i % 3], positions[i * 4 % 9])
        for i in range(COUNT)
    ]


def write_pictures(folder: Path) -> None:
    """Write the training pictures with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for index, scene in enumerate(training_scenes()):
        image = draw(scene, random_layout(scene, 256, 256, rng), colours=PALETTE)
        Image.fromarray((image * 255).round().astype(np.uint8)).save(folder / f"{index:02}.png")
        (folder / f"{index:02}.txt").write_text(scene.caption, encoding="utf-8")


def write_prompts(path: Path) -> None:
    """Write prompts in the colours that cocktail knows, which it is to draw as before."""
    rng = np.random.default_rng(3)
    known = triples(held_out=False)
    path.write_text("".join(f"{random_scene(rng, known).caption}\n" for _ in range(KEPT)), encoding="utf-8")


def held_out(count: int) -> list[Scene]:
    """Scenes in the new colour whose shape and background were not together in a training picture."""
    seen = {(scene.shape, scene.background) for scene in training_scenes()}
    others = [pair for pair in itertools.product(SHAPES, COLOURS) if pair not in seen]
    rng = np.random.default_rng(2)
    order = [others[i % len(others)] for i in rng.permutation(count)]
    return [random_scene(rng, [Scene(WORD, shape, background)]) for shape, background in order]


def examine_new(lora: Lora, count: int) -> tuple[dict[str, float], list[np.ndarray]]:
    """Share of pictures in the new colour that got each part right, and the pictures."""
    asked = held_out(count)
    drawn = list(pictures(asked, "cocktail", 256, 256, lora))
    return shares([judge(picture, scene, PALETTE) for picture, scene in zip(drawn, asked, strict=True)]), drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("--steps", default=SETTINGS["--steps"])
    parser.add_argument("--sheet", help="save the first 48 pictures side by side")
    arguments = parser.parse_args()
    write_pictures(arguments.out / "pictures")
    write_prompts(arguments.out / "keep.txt")
    command = [sys.executable, "-m", "wuerstchen_nodes.headless.cli", "train", "lora"]
    settings = itertools.chain.from_iterable({**SETTINGS, "--steps": arguments.steps}.items())
    started = time.monotonic()
    places = ["--pictures", str(arguments.out / "pictures"), "--out", str(arguments.out / "training")]
    places += ["--keep", str(arguments.out / "keep.txt")]
    subprocess.run([*command, *places, *settings], check=True)
    print(f"trained in {(time.monotonic() - started) / 60:.1f} min")
    lora = load_lora(arguments.out / "training")
    new, drawn = examine_new(lora, arguments.count)
    for title, found in (
        (f"held-out prompts in {WORD}", new),
        ("known colours before", examine(arguments.count)),
        ("known colours with the LoRA", examine(arguments.count, lora=lora)),
    ):
        print(f"{title}: " + ", ".join(f"{part} {share:.1%}" for part, share in found.items()))
    if arguments.sheet:
        rows = [np.concatenate(drawn[i : i + 8], axis=1) for i in range(0, min(48, len(drawn) // 8 * 8), 8)]
        Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(arguments.sheet)


if __name__ == "__main__":
    main()
