"""Pictures that go in, on a real ComfyUI: the examples, masks, and the image encoder under ComfyUI's own samplers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from support.comfyui_graphs import add, feed, ksampler, one, ran, saved, stage_c_graph, text_to_image
from support.comfyui_page import drawn_images, open_template, run
from support.comfyui_server import Prompt, Server
from wuerstchen_core import encode_stage_c, load_image_encoder
from wuerstchen_core.images import mask_of_positions
from wuerstchen_nodes.headless import load_workflow, prepare
from wuerstchen_nodes.headless.workflow import examples

ROOT = Path(__file__).parents[2]
FEW = {"Stage C Sampler.steps": 3}
HEART, MASKED = "wuerstchen_heart.png", "wuerstchen_square_masked.png"


@pytest.fixture(autouse=True, scope="module")
def pictures(server: Server) -> None:
    """Put the examples' pictures into the server's input folder."""
    (server.folder / "input").mkdir(exist_ok=True)
    for path in examples.folder().glob("wuerstchen_*.png"):
        shutil.copy(path, server.folder / "input")


def in_the_shell(prompt: Prompt, folder: Path) -> list[np.ndarray]:
    """Return the images that the command draws, in ComfyUI's Python: another torch would round differently."""
    file = folder / "graph.json"
    file.write_text(json.dumps(prompt))
    for path in examples.folder().glob("wuerstchen_*.png"):
        shutil.copy(path, folder)
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    command = [python, "-m", "nodes", "run", str(file), "--json", "--no-cache", "--out", str(folder / "drawn")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [np.asarray(Image.open(ROOT / event["path"])) for event in events if event["event"] == "saved"]


def example(name: str, settings: dict[str, Any] | None = None) -> Prompt:
    return prepare(load_workflow(examples.locate(name)), settings or {}).prompt


@pytest.mark.parametrize("name", ["image_to_image", "inpainting", "variations", "what_stages_know"])
def test_an_example_draws_the_same_bytes_in_comfyui_and_in_the_shell(server: Server, tmp_path: Path, name: str):
    prompt = example(name)
    theirs = server.images(ran(server, prompt))
    ours = in_the_shell(prompt, tmp_path)
    assert len(theirs) == len(ours) > 0
    for one_image, other in zip(theirs, ours, strict=True):
        assert np.array_equal(one_image, other)


def test_a_mask_of_ones_at_full_strength_is_text_to_image_to_the_byte(server: Server):
    plain = text_to_image(FEW)
    (expected,) = server.images(ran(server, plain))
    prompt = text_to_image(FEW)
    picture = add(prompt, "LoadImage", image=HEART)
    encoder = add(prompt, "WuerstchenLoadImageEncoder", model="cocktail")
    embeddings = add(prompt, "WuerstchenImageEncode", image_encoder=[encoder, 0], image=[picture, 0])
    mask = add(prompt, "SolidMask", value=1.0, width=256, height=256)
    masked = add(prompt, "SetLatentNoiseMask", samples=[embeddings, 0], mask=[mask, 0])
    feed(prompt, "StageCSampler", "latent", [masked, 0])
    (found,) = server.images(ran(server, prompt))
    assert np.array_equal(found, expected)
    latents = add(prompt, "WuerstchenStageAEncode", stage_a=[one(prompt, "LoadStageA"), 0], image=[picture, 0])
    both = add(prompt, "SetLatentNoiseMask", samples=[latents, 0], mask=[mask, 0])
    feed(prompt, "StageBDecode", "start", [both, 0])
    (found,) = server.images(ran(server, prompt))
    assert np.array_equal(found, expected)


def test_inpainting_keeps_every_other_pixel(server: Server):
    (found,) = server.images(ran(server, example("inpainting", {"Stage C Sampler.steps": 4})))
    before = np.asarray(Image.open(examples.folder() / MASKED).convert("RGB"))
    assert np.array_equal(found[:, :192], before[:, :192])
    assert not np.array_equal(found[:, 192:], before[:, 192:])


def encoded_by_vae(prompt: Prompt, picture: str = HEART) -> tuple[str, str]:
    """Add VAE Encode with the image encoder, and return its id and the picture's."""
    loaded = add(prompt, "LoadImage", image=picture)
    encoder = add(prompt, "WuerstchenLoadImageEncoder", model="cocktail")
    vae = add(prompt, "WuerstchenImageEncoderToVAE", image_encoder=[encoder, 0])
    return add(prompt, "VAEEncode", pixels=[loaded, 0], vae=[vae, 0]), loaded


def embeddings_of(picture: str) -> Tensor:
    pixels = np.asarray(Image.open(examples.folder() / picture).convert("RGB"), np.float32) / 255
    return encode_stage_c(load_image_encoder("cocktail"), torch.from_numpy(pixels).movedim(-1, 0)[None])


def test_vae_encode_gives_the_image_embeddings(server: Server):
    prompt = stage_c_graph()[0]
    latent, _ = encoded_by_vae(prompt)
    assert torch.allclose(saved(server, prompt, latent), embeddings_of(HEART), atol=0.5)  # of 42 a deviation


def test_ksampler_does_image_to_image_at_stage_c(server: Server):
    prompt, model, positive, negative, _ = stage_c_graph()
    latent, _ = encoded_by_vae(prompt)
    start = embeddings_of(HEART)
    results = {}
    for denoise in (0.02, 1.0):
        sampler = ksampler(prompt, model, positive, negative, [latent, 0], denoise=denoise, cfg=2.0)
        results[denoise] = saved(server, prompt, sampler)
    assert results[0.02].shape == start.shape == (1, 16, 6, 6)
    near, far = ((results[each] - start).abs().mean() for each in (0.02, 1.0))
    assert near < far / 1.5


def test_ksampler_heeds_a_mask_at_stage_c_wherever_it_touches_a_position(server: Server):
    prompt, model, positive, negative, _ = stage_c_graph()
    latent, loaded = encoded_by_vae(prompt, MASKED)
    start = embeddings_of(MASKED)
    masked = add(prompt, "SetLatentNoiseMask", samples=[latent, 0], mask=[loaded, 1])
    found = saved(server, prompt, ksampler(prompt, model, positive, negative, [masked, 0], cfg=2.0))
    alpha = np.asarray(Image.open(examples.folder() / MASKED).getchannel("A"), np.float32) / 255
    drawn = mask_of_positions(torch.from_numpy(1 - alpha)[None, None], 6, 9)[0, 0] > 0
    changed = (found - start).abs().amax(dim=1)[0] > 1
    assert torch.equal(changed, drawn)


def test_vae_encode_for_inpainting_sets_its_mask(server: Server):
    prompt, model, positive, negative, _ = stage_c_graph()
    _, loaded = encoded_by_vae(prompt, MASKED)
    vae = one(prompt, "ImageEncoderToVAE")
    latent = add(prompt, "VAEEncodeForInpaint", pixels=[loaded, 0], vae=[vae, 0], mask=[loaded, 1], grow_mask_by=6)
    sampler = ksampler(prompt, model, positive, negative, [latent, 0], cfg=2.0)
    before, after = saved(server, prompt, latent), saved(server, prompt, sampler)
    changed = (after - before).abs().amax(dim=1)[0] > 1
    assert before.shape == (1, 16, 6, 9) and not changed[:, :4].any() and changed[:, 5:].all()


def test_an_image_encoder_decodes_nothing_and_says_so(server: Server):
    prompt = stage_c_graph()[0]
    latent, _ = encoded_by_vae(prompt)
    image = add(prompt, "VAEDecode", samples=[latent, 0], vae=[one(prompt, "ImageEncoderToVAE"), 0])
    add(prompt, "PreviewImage", images=[image, 0])
    failed = server.run(prompt)
    assert failed.status == "error" and "An image encoder only encodes" in str(failed.error)


def test_the_page_fetches_an_examples_picture_and_draws_with_it(page: Any, server: Server):
    target = server.folder / "input" / HEART
    target.unlink()
    page.evaluate("app.refreshComboInNodes()")  # as if the page was opened now
    page.wait_for_timeout(1000)
    open_template(page, "image_to_image")
    page.wait_for_timeout(2000)
    assert target.read_bytes() == (examples.folder() / HEART).read_bytes()
    run(page)
    assert drawn_images(page) >= 1
