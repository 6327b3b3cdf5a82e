"""Test the embedded model: it draws the prompt, and the same images as diffusers with its weights."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from exam import examine
from exam_pictures import EXAMS
from PIL import Image

import wuerstchen_core
from support.judge import judge
from support.reference import pipelines
from wuerstchen_core import generate, interpolate, load_stage_c
from wuerstchen_core.training.world import Scene
from wuerstchen_nodes.headless import HeadlessHost, execute, load_workflow
from wuerstchen_nodes.headless.output_files import OutputFiles
from wuerstchen_nodes.headless.workflow.examples import locate

COCKTAIL = Path(wuerstchen_core.__file__).parent / "cocktail"
PROMPT = "a small yellow star at the left on a purple background"


@cache
def shares(count, model, width, height):
    return examine(count, model, width, height)


@pytest.mark.long
@pytest.mark.parametrize(
    ("count", "size", "part", "least"),
    [
        (200, (256, 256), "both colours", 0.99),
        (200, (256, 256), "shape", 0.99),
        (200, (256, 256), "position", 0.99),
        (100, (256, 384), "both colours", 0.97),
        (100, (256, 384), "shape", 0.97),
        (100, (256, 384), "position", 0.97),
        (40, (512, 512), "both colours", 0.97),
        (40, (512, 512), "shape", 0.97),
        (40, (512, 512), "position", 0.97),
    ],
)
def test_cocktail_draws_scenes_it_never_saw(count, size, part, least):
    assert shares(count, "cocktail", *size)[part] >= least


def test_cocktail_draws_a_few_scenes_it_never_saw():
    assert shares(12, "cocktail", 256, 256)["both colours"] >= 0.85


@pytest.mark.long
@pytest.mark.parametrize("model", ["cocktail-base", "cocktail-aesthetic"])
def test_its_two_parents_draw_too(model):
    assert shares(40, model, 256, 256)["both colours"] >= 0.85


@cache
def redrawn(exam, count):
    return EXAMS[exam](count).shares


@pytest.mark.long
@pytest.mark.parametrize(
    ("exam", "part", "least"),
    [
        ("round trip", "colours", 1.0),
        ("round trip", "shape", 0.95),
        ("round trip", "place", 0.95),
        ("image to image", "colours", 0.95),
        ("image to image", "place", 0.95),
        ("inpainting", "second there", 0.9),
        ("inpainting", "first untouched", 1.0),
        ("variations", "colours", 0.95),
        ("variations", "shape", 0.95),
        ("variations", "different", 1.0),
    ],
)
def test_cocktail_redraws_pictures_of_scenes_it_never_saw(exam, part, least):
    assert redrawn(exam, 100)[part] >= least


def test_cocktail_redraws_a_few_pictures():
    assert redrawn("round trip", 8) == {"colours": 1.0, "shape": 1.0, "place": 1.0}
    assert redrawn("inpainting", 8)["first untouched"] == 1.0


def test_cocktail_is_the_half_way_mix_of_base_and_aesthetic():
    base, aesthetic = load_stage_c("cocktail-base"), load_stage_c("cocktail-aesthetic")
    mixed, shipped = interpolate(base, aesthetic, 0.5).state_dict(), load_stage_c("cocktail").state_dict()
    parents = [base.state_dict(), aesthetic.state_dict()]
    for key, value in mixed.items():
        # Each of the three is stored in float16, rounded by half of its last place.
        rounded = (parents[0][key].abs() + parents[1][key].abs()) / 2 + shipped[key].abs()
        assert ((value - shipped[key]).abs() <= rounded * 2**-11 + 1e-7).all(), key


def test_cocktail_fits_its_budget():
    assert sum(path.stat().st_size for path in COCKTAIL.rglob("*") if path.is_file()) <= 24 * 2**20


def test_the_nodes_draw_what_diffusers_draws(tmp_path):
    prior, decoder = pipelines(COCKTAIL)

    def generators():
        return [torch.Generator("cpu").manual_seed(seed) for seed in (5, 6)]

    embeddings = prior(
        PROMPT, width=384, height=256, num_images_per_prompt=2, guidance_scale=2.0, negative_prompt="",
        timesteps=wuerstchen_core.DEFAULT_STAGE_C_TIMESTEPS, num_inference_steps=29, generator=generators(),
    ).image_embeddings  # fmt: skip
    theirs = decoder(embeddings, PROMPT, num_inference_steps=12, generator=generators(), output_type="pil").images

    settings = {"Prompt.value": PROMPT, "Stage C Sampler.width": 384, "Stage C Sampler.batch_size": 2}
    settings |= {"Stage B Decode.steps": 12, "Stage B Decode.schedule": "linear"}
    host = HeadlessHost(OutputFiles(tmp_path), device="cpu")
    result = execute(load_workflow(locate("text_to_image")), settings, seed=5, host=host)
    ours = np.stack([np.asarray(Image.open(path), int) for path in result.images])
    reference = np.stack([np.asarray(image, int) for image in theirs])
    assert ours.shape == reference.shape == (2, 256, 384, 3)
    assert np.abs(ours - reference).max() <= 1


def test_an_image_is_the_same_alone_and_in_a_batch():
    batch = generate(PROMPT, seed=7, batch_size=3)
    alone = generate(PROMPT, seed=8)[0]
    difference = np.abs(np.asarray(batch[1], int) - np.asarray(alone, int))
    assert difference.max() <= 1
    assert np.abs(np.asarray(batch[0], int) - np.asarray(alone, int)).max() > 8


@pytest.mark.parametrize(
    ("workflow", "count", "scene"),
    [
        ("text_to_image", 1, Scene("red", "heart", "white", "large")),
        ("interpolation", 3, Scene("blue", "star", "yellow")),
        ("stage_reuse", 3, Scene("green", "diamond", "black", "small")),
    ],
)
def test_every_bundled_cocktail_workflow_draws_the_colours_of_its_prompt(tmp_path, workflow, count, scene):
    host = HeadlessHost(OutputFiles(tmp_path), device="cpu")
    result = execute(load_workflow(locate(workflow)), {"Prompt.value": scene.caption}, host=host)
    assert len(result.images) == count
    for path in result.images:
        verdict = judge(np.asarray(Image.open(path), np.float32) / 255, scene)
        assert verdict.colour and verdict.background, path.name


PICTURES_IN = {
    "image_to_image": Scene("blue", "heart", "white"),
    "restyle": Scene("red", "heart", "white"),
    "variations": Scene("red", "heart", "white"),
}


@pytest.mark.parametrize("workflow", PICTURES_IN)
def test_every_workflow_that_changes_a_picture_draws_what_it_says(tmp_path, workflow):
    result = execute(load_workflow(locate(workflow)), host=_host(workflow, tmp_path))
    for path in result.images:
        verdict = judge(np.asarray(Image.open(path), np.float32) / 255, PICTURES_IN[workflow])
        assert verdict.colour and verdict.background and verdict.shape, path.name


@pytest.mark.parametrize("workflow", ["inpainting", "inpainting_by_mask_file"])
def test_the_workflows_of_inpainting_draw_beside_and_keep_the_rest(tmp_path, workflow):
    (path,) = execute(load_workflow(locate(workflow)), host=_host(workflow, tmp_path)).images
    after, before = (np.asarray(Image.open(each)) for each in (path, locate(workflow).parent / "wuerstchen_square.png"))
    assert np.array_equal(after[:, :192], before[:, :192])
    verdict = judge(after[:, 192:].astype(np.float32) / 255, Scene("blue", "circle", "yellow"))
    assert verdict.colour and verdict.background and verdict.shape


def test_the_workflow_of_what_stages_know_gives_five_pictures(tmp_path):
    images = execute(load_workflow(locate("what_stages_know")), host=_host("what_stages_know", tmp_path)).images
    given, by_a, by_b, lost, left_open = (np.asarray(Image.open(path), int) for path in images)
    assert np.abs(given - by_a).mean() < 2 < 10 < np.abs(given - by_b).max()
    assert np.abs(lost - np.abs(given - by_b)).max() <= 2
    assert 0 < left_open.mean() < 20


def _host(workflow, folder):
    return HeadlessHost(OutputFiles(folder), device="cpu", input_folders=[locate(workflow).parent])


def test_a_size_between_steps_is_cropped():
    with pytest.warns(UserWarning, match="300x200 is drawn as 384x256 and cropped"):
        assert generate("a red circle on a white background", width=300, height=200)[0].size == (300, 200)
