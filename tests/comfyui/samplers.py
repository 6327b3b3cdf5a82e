"""Draws cocktail's pictures with every sampler and scheduler of ComfyUI, and judges them.

    $COMFYUI_PYTHON tests/comfyui/samplers.py --stage C --steps 29 [--count 6] [--all] [--sheet FILE.png]

with COMFYUI_DIR as for the tests. It prints each pair that is refused, or of whose pictures not all have the right
colours and shape. The sheet shows a picture of each pair: samplers down, schedulers across, failed pairs framed in red.
"""
# pyright: reportMissingImports=false

import argparse
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAMPLERS = (
    "euler", "euler_ancestral", "heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive",
    "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "ddpm", "lcm", "ddim", "uni_pc",
)  # fmt: skip
"""Samplers that people use most; --all takes all that there are."""
SIDE, LEFT, TOP = 96, 150, 20
"""Size of a picture on the sheet, and of the space for names, in pixels."""


def load_the_pack() -> Any:
    """Import this pack as ComfyUI does, and return its package."""
    sys.path[:0] = [os.environ["COMFYUI_DIR"], str(ROOT / "tests")]
    os.chdir(os.environ["COMFYUI_DIR"])
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    importlib.import_module("utils.extra_config")  # or another module named utils would be found first
    import comfy.model_management
    import folder_paths  # noqa: F401 (the pack looks for these two)

    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = pack
    spec.loader.exec_module(pack)
    return pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=["C", "B"], required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--count", type=int, default=6, help="pictures of each pair")
    parser.add_argument("--all", action="store_true", help="all samplers")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    sheet = arguments.sheet and arguments.sheet.resolve()
    pack = load_the_pack()
    logging.disable(logging.WARNING)

    import comfy.samplers
    import numpy as np
    from PIL import Image, ImageDraw

    schedulers = comfy.samplers.KSampler.SCHEDULERS
    samplers = comfy.samplers.KSampler.SAMPLERS if arguments.all else SAMPLERS
    scenes, draw = _drawing(pack, arguments.stage, arguments.steps, arguments.count)
    picture = Image.new("RGB", (LEFT + SIDE * len(schedulers), TOP + SIDE * len(samplers)), "white")
    canvas = ImageDraw.Draw(picture)
    for column, scheduler in enumerate(schedulers):
        canvas.text((LEFT + SIDE * column + 4, 4), scheduler, "black")
    for row, sampler in enumerate(samplers):
        canvas.text((4, TOP + SIDE * row + SIDE // 2), sampler, "black")
        for column, scheduler in enumerate(schedulers):
            corner = (LEFT + SIDE * column, TOP + SIDE * row)
            box = [*corner, corner[0] + SIDE - 1, corner[1] + SIDE - 1]
            images, remark = _judged(draw, scenes, sampler, scheduler)
            if images is None:
                canvas.rectangle(box, "lightgrey")
                canvas.text((corner[0] + 24, corner[1] + 40), "refused", "black")
            else:
                small = Image.fromarray((images[row % len(images)] * 255).round().astype(np.uint8))
                picture.paste(small.resize((SIDE, SIDE)), corner)
                if remark:
                    canvas.rectangle(box, outline="red", width=4)
            if remark:
                print(f"{sampler} {scheduler}: {remark}", flush=True)
        if sheet:
            picture.save(sheet)
    print("done", flush=True)


def _judged(draw: Callable[[str, str], Any], scenes: list[Any], sampler: str, scheduler: str) -> tuple[Any, str]:
    """Return the pictures of a pair, or None, and why they are not right; empty if they are."""
    from exam import shares

    from support.judge import judge

    try:
        images = draw(sampler, scheduler)
    except Exception as error:  # whatever a sampler raises is what a person would see
        return None, f"{type(error).__name__}: {str(error).partition('. ')[0]}"
    found = shares([judge(image, scene) for image, scene in zip(images, scenes, strict=True)])
    wrong = [f"{part} {found[part]:.0%}" for part in ("both colours", "shape") if found[part] < 1]
    return images, ", ".join(wrong)


def _drawing(pack: Any, stage: str, steps: int, count: int) -> tuple[list[Any], Callable[[str, str], Any]]:
    """Return the scenes, and a function that draws them with a sampler and a scheduler at one stage."""
    import comfy.sample
    import torch
    from exam import decoded
    from exam import scenes as held_out

    import wuerstchen_core as core

    native = sys.modules[f"{pack.__name__}.nodes.comfy.nodes"]
    current = sys.modules[f"{pack.__name__}.nodes.host"].host()
    sockets = sys.modules[f"{pack.__name__}.nodes.sockets"]
    scenes = held_out(count)
    prompts = [scene.caption for scene in scenes]
    stage_a, stage_b, stage_c = (
        core.load_stage_a("cocktail"),
        core.load_stage_b("cocktail"),
        core.load_stage_c("cocktail"),
    )
    text_c, text_b = (core.load_text_encoder("cocktail", for_stage=each) for each in ("C", "B"))
    encoded_c, encoded_b = text_c.encode(prompts), text_b.encode(prompts)
    seeds = list(range(count))
    c_latent, b_latent = (each["samples"] for each in native.EmptyWuerstchenLatent().make(256, 256, count))

    def images_of(latents: Any) -> Iterator[Any]:
        return iter(core.decode_stage_a(stage_a, latents).permute(0, 2, 3, 1).numpy())

    def sampled(model: Any, latent: Any, positive: Any, negative: Any, cfg: float, pair: tuple[str, str]) -> Any:
        noise = comfy.sample.prepare_noise(latent, 7)
        return comfy.sample.sample(
            model, noise, steps, cfg, *pair, positive, negative, latent, seed=7, disable_pbar=True
        )

    def by_stage_c(sampler: str, scheduler: str) -> Any:
        positive = sockets.conditioning_of(encoded_c, "C")
        negative = sockets.conditioning_of(text_c.encode([""]), "C")
        embeddings = sampled(model_c, c_latent, positive, negative, 2.0, (sampler, scheduler))
        return list(images_of(decoded(stage_b, embeddings, encoded_b, seeds, "cocktail")))

    with torch.inference_mode():
        model_c = native.StageCToModel().convert(current.keep(core.load_stage_c("cocktail")))[0]
        if stage == "C":
            return scenes, by_stage_c
        model_b = native.StageBToModel().convert(current.keep(core.load_stage_b("cocktail")))[0]
        embeddings = core.sample_stage_c(
            stage_c, encoded_c, text_c.encode([""]), width=256, height=256, seeds=seeds, guidance_scale=2.0
        )

    def by_stage_b(sampler: str, scheduler: str) -> Any:
        positive = sockets.conditioning_of(encoded_b, "B")
        positive[0][1]["stable_cascade_prior"] = embeddings
        return list(images_of(sampled(model_b, b_latent, positive, positive, 1.0, (sampler, scheduler))))

    return scenes, by_stage_b


if __name__ == "__main__":
    main()
