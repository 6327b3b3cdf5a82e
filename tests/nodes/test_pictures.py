"""Pictures that go in through the node classes, on tiny random networks."""

from typing import Any

import pytest
import torch

from support import tiny
from support.hosts import FakeHost, Kept, conditioning
from wuerstchen_core import encode_stage_a, encode_stage_c, sample_stage_b, sample_stage_c, v2_timesteps
from wuerstchen_core.errors import InputError
from wuerstchen_nodes.image_encoder import ImageEncode
from wuerstchen_nodes.loaders import LoadImageEncoder
from wuerstchen_nodes.pictures import MASK_KEY
from wuerstchen_nodes.sockets import SIZE_KEY
from wuerstchen_nodes.stage_a import StageADecode, StageAEncode
from wuerstchen_nodes.stage_b import StageBDecode
from wuerstchen_nodes.stage_c import StageCSampler
from wuerstchen_nodes.variations import Variations

pytestmark = pytest.mark.usefixtures("fake_host")

TEXT_C = tiny.STAGE_C.c_cond


def image(height: int = 256, width: int = 256, batch: int = 1, channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(1))


def encode(picture: torch.Tensor) -> dict[str, Any]:
    (latent,) = ImageEncode().encode(Kept(tiny.image_encoder()), picture)
    return latent


def encode_a(picture: torch.Tensor) -> dict[str, Any]:
    (latent,) = StageAEncode().encode(Kept(tiny.stage_a()), picture)
    return latent


def sample(latent: Any = None, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "positive": conditioning(TEXT_C, seed=1),
        "negative": conditioning(TEXT_C, seed=2),
        "seed": 5,
        "steps": 3,
        "schedule": "v2",
        "cfg": 4.0,
        "width": 128,
        "height": 128,
        "batch_size": 1,
    }
    (found,) = StageCSampler().sample(Kept(tiny.stage_c()), **{**values, "latent": latent, **changes})
    return found


def decode_b(latent: dict[str, Any], **changes: Any) -> dict[str, Any]:
    (found,) = StageBDecode().decode(Kept(tiny.stage_b()), latent, 9, 2, 0.0, **changes)
    return found


def masked(latent: dict[str, Any], mask: torch.Tensor) -> dict[str, Any]:
    """Return a latent as Set Latent Noise Mask gives it."""
    return {**latent, MASK_KEY: mask.reshape(-1, 1, *mask.shape[-2:])}


def test_a_picture_becomes_image_embeddings_and_latents(fake_host: FakeHost):
    picture = image(batch=2)
    pixels = picture.movedim(-1, 1)
    embeddings, latents = encode(picture), encode_a(picture)
    assert torch.equal(embeddings["samples"], encode_stage_c(tiny.image_encoder(), pixels))
    assert torch.allclose(latents["samples"], encode_stage_a(tiny.stage_a(), pixels), atol=1e-5)
    assert set(embeddings) == set(latents) == {"samples"} and not any(fake_host.notices)


def test_a_picture_of_another_size_comes_back_in_its_size():
    picture = image(150, 200)
    embeddings, latents = encode(picture), encode_a(picture)
    assert embeddings[SIZE_KEY] == latents[SIZE_KEY] == (200, 150)
    assert embeddings["samples"].shape[-2:] == (6, 6) and latents["samples"].shape[-2:] == (64, 64)
    (decoded,) = StageADecode().decode(Kept(tiny.stage_a()), decode_b(sample(embeddings, denoise=0.5)))
    assert decoded.shape == (1, 150, 200, 3)


def test_an_image_with_alpha_or_gray_is_read_and_alpha_is_said(fake_host: FakeHost, caplog):
    picture = image(channels=4)
    assert torch.equal(encode(picture)["samples"], encode(picture[..., :3])["samples"])
    assert "The image is transparent; the colours that are stored there are used." in fake_host.notices
    assert "transparent" in caplog.text
    gray = image(channels=1)
    assert torch.equal(encode(gray)["samples"], encode(gray.expand(-1, -1, -1, 3))["samples"])


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.zeros(256, 256, 3), r"image is a tensor of shape \[256, 256, 3\] and .*; expected an IMAGE"),
        (torch.zeros(0, 8, 8, 3), "expected an IMAGE"),
        (torch.zeros(1, 8, 8, 2), "expected an IMAGE"),
        ({"samples": 1}, "image is a dictionary with 'samples'; expected an IMAGE"),
        (torch.zeros(1, 1, 20000, 3), "image has 20000 x 1 pixels; expected at most 8192 on a side"),
        (torch.full((1, 8, 8, 3), float("nan")), "not numbers"),
    ],
)
@pytest.mark.parametrize("into", [encode, encode_a])
def test_what_is_no_image_is_refused(into, picture, message):
    with pytest.raises(InputError, match=message):
        into(picture)


def test_a_picture_of_one_pixel_is_encoded():
    latent = encode(image(1, 1))
    assert latent["samples"].shape == (1, 16, 3, 3) and latent[SIZE_KEY] == (1, 1)


def test_the_sampler_changes_a_latent_as_the_core_does():
    start = encode(image(256, 384))
    found = sample(start, denoise=0.5, width=128, height=128)["samples"]
    positive, negative = (conditioning(TEXT_C, seed=each)[0][0] for each in (1, 2))
    expected = sample_stage_c(
        tiny.stage_c(),
        positive,
        negative,
        width=384,
        height=256,
        seeds=[5],
        timesteps=v2_timesteps(6),
        start=start["samples"],
        strength=0.5,
    )
    assert torch.equal(found, expected)


def test_full_denoise_and_a_mask_of_ones_are_text_to_image_to_the_byte():
    start = encode(image())
    plain = sample(width=256, height=256)["samples"]
    assert torch.equal(sample(start)["samples"], plain)
    ones = masked(start, torch.ones(1, 256, 256))
    assert torch.equal(sample(ones)["samples"], plain)
    assert torch.equal(sample(ones, context=0.0)["samples"], plain)
    decoded = decode_b(start)["samples"]
    assert torch.equal(decode_b(start, start=masked(encode_a(image()), torch.ones(256, 256)))["samples"], decoded)


@pytest.mark.parametrize("context", [0.0, 0.5, 1.0])
def test_a_mask_keeps_the_rest_at_both_stages(context):
    start, there = encode(image()), encode_a(image())
    mask = torch.zeros(1, 256, 256)
    mask[:, :, 128:] = 1
    found = sample(masked(start, mask), context=context)
    changed = ((found["samples"] - start["samples"]).abs() > 1e-3).any(dim=1)[0].any(dim=0)
    assert changed.tolist() == [False] * 3 + [True] * 3
    latents = decode_b(found, start=masked(there, mask))["samples"]
    changed = ((latents - there["samples"]).abs() > 1e-4).any(dim=1)[0].any(dim=0)
    assert not changed[:32].any() and changed[32:].all()


def test_context_says_what_is_drawn_under_the_mask():
    mask = torch.zeros(1, 256, 256)
    mask[:, :, 128:] = 1
    drawn = [sample(masked(encode(image()), mask), context=each)["samples"][..., 3:] for each in (0.0, 1.0)]
    assert (drawn[0] - drawn[1]).abs().max() > 0.01
    alone = sample(width=256, height=256)["samples"][..., 3:]
    assert torch.allclose(drawn[0], alone, atol=1e-3)


def test_a_mask_of_the_pictures_own_size_is_filled_up_and_another_is_stretched(fake_host: FakeHost, caplog):
    start = encode(image(150, 200))
    mask = torch.zeros(1, 150, 200)
    mask[:, 149, 199] = 1  # the corner: what is filled up beside it is drawn anew, too
    found = sample(masked(start, mask))["samples"]
    changed = ((found - start["samples"]).abs() > 1e-3).any(dim=1)[0]
    assert changed[3:, 4:].all() and not changed[:3].any() and not any(fake_host.notices)
    sample(masked(start, torch.ones(1, 64, 64)))
    assert fake_host.notices[-1] == "The mask is 64x64, the picture 200x150; it is stretched to fit."
    assert "it is stretched" in caplog.text


def test_a_black_mask_gives_the_latent_back_and_says_so(fake_host: FakeHost):
    start = encode(image())
    found = sample(masked(start, torch.zeros(1, 64, 64)))["samples"]
    assert torch.allclose(found, start["samples"], atol=1e-3)
    assert fake_host.notices[-1].splitlines() == [
        "The mask is 0 all over, so the latent stays as it is.",
        "The mask is 64x64, the picture 256x256; it is stretched to fit.",
    ]
    sample(start)
    assert fake_host.notices[-1] == ""  # takes it away


def test_a_latent_that_another_node_has_resized_has_no_size_of_its_own(fake_host: FakeHost):
    start = {**encode(image(150, 200)), "samples": torch.zeros(1, 16, 9, 9)}
    sample(masked(start, torch.ones(1, 384, 384)))
    assert not any(fake_host.notices)


def test_batches_of_latents_seeds_and_masks():
    two = encode(image(batch=2))
    both = sample(two, denoise=0.5)["samples"]
    assert len(both) == 2
    for index in range(2):
        one = {"samples": two["samples"][index : index + 1], "batch_index": [index]}
        assert torch.allclose(sample(one, denoise=0.5)["samples"][0], both[index], rtol=1e-4, atol=1e-3)
    one = {"samples": two["samples"][:1]}
    assert len(sample(one, denoise=0.5, batch_size=3)["samples"]) == 3
    masks = torch.zeros(2, 256, 256)
    masks[1] = 1
    found = sample(masked(two, masks), denoise=1.0)["samples"]
    assert torch.allclose(found[0], two["samples"][0], atol=1e-3)
    assert not torch.allclose(found[1], two["samples"][1], atol=1e-3)
    with pytest.raises(InputError, match="batch_size is 3 and latent holds 2 images; expected 1 or 2"):
        sample(two, batch_size=3)


def test_variations_are_the_end_of_the_schedule_without_guidance():
    start = encode(image())
    (found,) = Variations().vary(Kept(tiny.stage_c()), conditioning(TEXT_C, seed=1), start, 7, 4, 0.25, 3)
    assert len(found["samples"]) == 3
    expected = sample_stage_c(
        tiny.stage_c(),
        conditioning(TEXT_C, seed=1)[0][0],
        width=256,
        height=256,
        seeds=[7, 8, 9],
        timesteps=v2_timesteps(16),
        guidance_scale=1.0,
        start=start["samples"],
        strength=0.25,
    )
    assert torch.equal(found["samples"], expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(denoise=0.5), "denoise is 0.5 and latent is not connected"),
        (lambda: decode_b(encode(image()), denoise=0.5), "denoise is 0.5 and start is not connected"),
        (lambda: sample(encode_a(image())), "latent has 4 channels.*Stage C Sampler expects the 16 channels"),
        (lambda: sample({"samples": torch.zeros(1, 16, 8, 8)}), "latent is 8 x 8 positions; expected Stage C's"),
        (lambda: sample({"samples": torch.zeros(1, 8, 6, 6)}), "latent has 8 channels, not a Würstchen latent"),
        (lambda: decode_b(encode(image()), start=encode(image())), "start has 16 channels.*Stage B Decode expects 4"),
        (lambda: decode_b(encode(image()), start=encode_a(image(128, 128))), r"start has shape \[1, 4, 32, 32\]"),
        (lambda: sample(masked(encode(image()), torch.ones(1, 8, 8)) | {MASK_KEY: "all"}), "a mask that is 'all'"),
        (lambda: sample(encode(image()), denoise=0.0), "denoise is 0.0"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_loader_loads_cocktails_and_names_a_missing_one(fake_host: FakeHost):
    (kept,) = LoadImageEncoder().load("cocktail")
    assert kept.network.config.c_latent == 16
    assert all(path.is_file() for path in LoadImageEncoder.source_files("cocktail"))
    assert LoadImageEncoder.IS_CHANGED("cocktail") == "cocktail"
    from wuerstchen_core import WeightsMissingError

    with pytest.raises(WeightsMissingError, match=r"The image encoder of v2-base is not on this machine: .*0\.08 GB"):
        LoadImageEncoder().load("v2-base")


def test_a_preview_is_of_what_is_drawn(fake_host: FakeHost):
    fake_host.previews = []
    sample(encode(image()), denoise=0.5)
    assert [label for label, _, _ in fake_host.reported] == ["Stage C"] * 3 and len(fake_host.previews) == 3
    latents = sample_stage_b(tiny.stage_b(), encode(image())["samples"], seeds=[1], timesteps=[1.0, 0.0])
    assert latents.shape == (1, 4, 64, 64)
