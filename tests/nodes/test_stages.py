"""The three stages through their node classes, on tiny random networks."""

from typing import Any

import pytest
import torch

from support import tiny
from support.hosts import FakeHost, Kept, conditioning
from wuerstchen_core import linear_timesteps, sample_stage_b, sample_stage_c
from wuerstchen_core.errors import InputError
from wuerstchen_nodes.stage_a import StageADecode
from wuerstchen_nodes.stage_b import StageBDecode
from wuerstchen_nodes.stage_c import StageCSampler

pytestmark = pytest.mark.usefixtures("fake_host")

TEXT_C = tiny.STAGE_C.c_cond
TEXT_B = tiny.STAGE_B_OWN_TEXT.clip_embd
"""Text widths of the two stages, which differ."""


def sample_c(stage_c: Any = None, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "stage_c": Kept(stage_c or tiny.stage_c()),
        "positive": conditioning(TEXT_C, seed=1),
        "negative": conditioning(TEXT_C, seed=2),
        "seed": 5,
        "steps": 3,
        "schedule": "v2",
        "cfg": 4.0,
        "width": 128,
        "height": 256,
        "batch_size": 1,
    }
    (latent,) = StageCSampler().sample(**{**values, **changes})
    return latent


def decode_b(latent: dict[str, Any], seed: int = 9, **changes: Any) -> dict[str, Any]:
    options = {"steps": 2, "cfg": 0.0, **changes}
    (decoded,) = StageBDecode().decode(Kept(tiny.stage_b(tiny.STAGE_B_OWN_TEXT)), latent, seed, **options)
    return decoded


def decode_a(latent: dict[str, Any]) -> torch.Tensor:
    (image,) = StageADecode().decode(Kept(tiny.stage_a()), latent)
    return image


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, in terms of the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def test_text_to_image(fake_host: FakeHost):
    embeddings = sample_c(batch_size=2)
    assert embeddings["samples"].shape == (2, 16, 6, 3) and set(embeddings) == {"samples"}
    latents = decode_b(embeddings, positive=conditioning(TEXT_B))
    assert latents["samples"].shape == (2, 4, 64, 32)
    image = decode_a(latents)
    assert image.shape == (2, 256, 128, 3) and image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert fake_host.reported == [
        *[("Stage C", done, 3) for done in (1, 2, 3)],
        *[("Stage B", done, 2) for done in (1, 2)],
        *[("Stage A", done, 2) for done in (1, 2)],
    ]


def test_stage_c_passes_each_value_on():
    network = tiny.stage_c()
    values = {"seed": 3, "steps": 4, "schedule": "linear", "cfg": 2.5, "width": 384, "height": 128, "batch_size": 2}
    expected = sample_stage_c(
        network,
        conditioning(TEXT_C, seed=1)[0][0],
        conditioning(TEXT_C, seed=2)[0][0],
        width=384,
        height=128,
        seeds=[3, 4],
        timesteps=linear_timesteps(4),
        guidance_scale=2.5,
    )
    assert torch.equal(sample_c(network, **values)["samples"], expected)


def test_stage_b_passes_each_value_on():
    embeddings = sample_c(batch_size=2)
    positive, negative = conditioning(TEXT_B, seed=3), conditioning(TEXT_B, seed=4)
    expected = sample_stage_b(
        tiny.stage_b(tiny.STAGE_B_OWN_TEXT),
        embeddings["samples"],
        positive[0][0],
        negative[0][0],
        seeds=[11, 12],
        timesteps=linear_timesteps(3),
        guidance_scale=3.0,
    )
    latents = decode_b(embeddings, 11, steps=3, cfg=3.0, positive=positive, negative=negative)
    assert torch.equal(latents["samples"], expected)


def test_an_image_is_the_same_alone_and_in_a_batch():
    batch = sample_c(batch_size=3)
    alone = sample_c(seed=5 + 2)
    assert apart(batch["samples"][2:], alone["samples"]) < 1e-4
    images, image = decode_a(decode_b(batch)), decode_a(decode_b(alone, seed=9 + 2))
    assert (images[2:] - image).abs().max() <= 1 / 255
    assert (images[1:2] - image).abs().max() > 1 / 255


def test_an_image_taken_out_of_its_batch_keeps_its_seed():
    batch = sample_c(batch_size=3)
    taken = {**batch, "samples": batch["samples"][1:2], "batch_index": [1]}  # as Latent From Batch leaves it
    in_batch = decode_b(batch)["samples"]
    assert apart(decode_b(taken)["samples"], in_batch[1:2]) < 1e-4 < apart(in_batch[:1], in_batch[1:2])


def test_a_longer_prompt_and_a_negative_of_another_length():
    longer = conditioning(TEXT_C, seed=1, tokens=12)
    assert not torch.equal(sample_c(positive=longer)["samples"], sample_c()["samples"])


def test_a_size_between_whole_steps_is_cropped():
    embeddings = sample_c(width=130, height=100)
    assert embeddings["samples"].shape == (1, 16, 3, 6)
    assert decode_a(decode_b(embeddings)).shape == (1, 100, 130, 3)


def test_a_cancelled_run_stops(fake_host: FakeHost):
    fake_host.cancel_at = 2
    with pytest.raises(KeyboardInterrupt):
        sample_c()
    assert fake_host.reported[-1] == ("Stage C", 2, 3)


def test_previews_show_what_the_checkpoint_says_latents_look_like(fake_host: FakeHost):
    fake_host.previews = []
    network = tiny.stage_c()
    network.latent_rgb = torch.cat([torch.zeros(16, 3), torch.tensor([[1.0, 0.5, 0.0]])])
    sample_c(network, batch_size=2)
    shown = fake_host.previews
    assert shown is not None and len(shown) == 3
    for image in shown:
        assert image is not None and image.shape == (6, 3, 3)
        assert torch.allclose(image, torch.tensor([1.0, 0.5, 0.0]))


def test_without_a_place_for_previews_none_are_made(fake_host: FakeHost, monkeypatch):
    monkeypatch.setattr("wuerstchen_core.previews.preview", None)
    decode_b(sample_c())
    assert fake_host.reported


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"height": 100000}, "height is 100000"),
        ({"steps": 0}, "steps is 0"),
        ({"schedule": "karras"}, "schedule is 'karras'; expected one of v2, linear"),
        ({"batch_size": 0}, "batch_size is 0"),
        (
            {"positive": conditioning(TEXT_B)},
            rf"positive has shape \[1, 5, {TEXT_B}\]; .*\[1 or 1, tokens, {TEXT_C}\]",
        ),
        ({"negative": conditioning(TEXT_B)}, "negative has shape"),
        ({"negative": []}, "negative is an empty list"),
    ],
)
def test_stage_c_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        sample_c(**changes)


def test_stage_b_refuses_a_prompt_for_stage_c():
    with pytest.raises(InputError, match=r"positive has shape .* this Stage B expects"):
        decode_b(sample_c(), positive=conditioning(TEXT_C))


def test_a_latent_of_the_wrong_stage_is_refused():
    embeddings = sample_c()
    with pytest.raises(InputError, match="Stage B Decode first"):
        decode_a(embeddings)
    with pytest.raises(InputError, match="goes to Stage A VQGAN Decode"):
        decode_b(decode_b(embeddings))
