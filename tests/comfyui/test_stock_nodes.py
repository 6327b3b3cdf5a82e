"""ComfyUI's own nodes between ours."""

import shutil

import numpy as np
import pytest

from support.comfyui_graphs import add, feed, one, text_to_image
from support.comfyui_server import Prompt, Server


def pictures(server: Server, prompt: Prompt) -> list[np.ndarray]:
    run = server.run(prompt)
    assert run.status == "success", run.error
    return server.images(run)


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.fixture(scope="module")
def plain(server: Server) -> np.ndarray:
    """Return the image that the graph draws without a stock node in between."""
    (picture,) = pictures(server, text_to_image())
    return picture


def prompt_with_second_text(text: str) -> tuple[Prompt, list, list]:
    """The graph, what conditions its Stage C, and a second conditioning."""
    prompt = text_to_image()
    first = prompt[one(prompt, "StageCSampler")]["inputs"]["positive"]
    encoder = prompt[first[0]]["inputs"]["text_encoder"]
    second = add(prompt, "WuerstchenTextEncode", text_encoder=encoder, text=text)
    return prompt, first, [second, 0]


def test_conditioning_average(server: Server, plain):
    prompt, first, second = prompt_with_second_text("a yellow circle on a black background")
    average = add(
        prompt, "ConditioningAverage", conditioning_to=first, conditioning_from=second, conditioning_to_strength=1.0
    )
    feed(prompt, "StageCSampler", "positive", [average, 0])
    assert apart(pictures(server, prompt)[0], plain) <= 1
    prompt[average]["inputs"]["conditioning_to_strength"] = 0.5
    assert apart(pictures(server, prompt)[0], plain) > 5


def test_conditioning_concat(server: Server, plain):
    prompt, first, second = prompt_with_second_text("a yellow circle on a black background")
    joined = add(prompt, "ConditioningConcat", conditioning_to=first, conditioning_from=second)
    feed(prompt, "StageCSampler", "positive", [joined, 0])
    assert apart(pictures(server, prompt)[0], plain) > 5


def test_latent_blend(server: Server, plain):
    prompt = text_to_image()
    latent = prompt[one(prompt, "StageBDecode")]["inputs"]["latent"]
    other = add(prompt, "WuerstchenStageCSampler", **{**prompt[latent[0]]["inputs"], "seed": 77})
    blend = add(prompt, "LatentBlend", samples1=latent, samples2=[other, 0], blend_factor=1.0)
    feed(prompt, "StageBDecode", "latent", [blend, 0])
    assert apart(pictures(server, prompt)[0], plain) <= 1
    prompt[blend]["inputs"]["blend_factor"] = 0.5
    assert apart(pictures(server, prompt)[0], plain) > 5


def test_repeat_latent_batch_and_image_batch(server: Server, plain):
    prompt = text_to_image()
    latent = prompt[one(prompt, "StageBDecode")]["inputs"]["latent"]
    repeated = add(prompt, "RepeatLatentBatch", samples=latent, amount=2)
    feed(prompt, "StageBDecode", "latent", [repeated, 0])
    image = prompt[one(prompt, "SaveImage")]["inputs"]["images"]
    doubled = add(prompt, "ImageBatch", image1=image, image2=image)
    add(prompt, "PreviewImage", images=[doubled, 0])
    shown = pictures(server, prompt)
    assert len(shown) == 2 + 4
    assert apart(shown[0], plain) <= 1
    assert apart(shown[1], plain) > 0, "Stage B's second image has a seed of its own"


def test_an_image_taken_out_of_a_batch_stays_the_same(server: Server):
    prompt = text_to_image({"Stage C Sampler.batch_size": 3})
    batch = pictures(server, prompt)
    assert len(batch) == 3
    latent = prompt[one(prompt, "StageBDecode")]["inputs"]["latent"]
    second = add(prompt, "LatentFromBatch", samples=latent, batch_index=1, length=1)
    feed(prompt, "StageBDecode", "latent", [second, 0])
    assert apart(pictures(server, prompt)[0], batch[1]) <= 1


def test_a_stage_c_result_saved_today_is_decoded_tomorrow(server: Server, plain):
    prompt = text_to_image()
    sampler = one(prompt, "StageCSampler")
    saving = {node: prompt[node] for node in (*_above(prompt, sampler), sampler)}
    save = add(saving, "SaveLatent", samples=[sampler, 0], filename_prefix="latents/today")
    run = server.run(saving)
    assert run.status == "success", run.error
    (saved,) = run.outputs[save]["latents"]
    shutil.copy(server.folder / "output" / saved["subfolder"] / saved["filename"], server.folder / "input/c.latent")

    load = add(prompt, "LoadLatent", latent="c.latent")
    feed(prompt, "StageBDecode", "latent", [load, 0])
    assert apart(pictures(server, prompt)[0], plain) <= 1


def _above(prompt: Prompt, node: str) -> set[str]:
    """Every node that feeds `node`."""
    links = {value[0] for value in prompt[node]["inputs"].values() if isinstance(value, list)}
    return links.union(*(_above(prompt, link) for link in links))
