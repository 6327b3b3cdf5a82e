"""Checks and conversions of what travels between nodes."""

import pytest
import torch

from support.hosts import conditioning
from wuerstchen_core.errors import InputError
from wuerstchen_nodes import sockets

NAN = float("nan")
pytestmark = pytest.mark.usefixtures("fake_host")


def test_conditioning_is_float32_on_the_cpu_with_a_pooled_vector():
    embedding = torch.randn(2, 77, 24, dtype=torch.bfloat16)
    ((tensor, options),) = sockets.conditioning_of(embedding)
    assert tensor.dtype == torch.float32 and tensor.shape == (2, 77, 24)
    assert torch.equal(options["pooled_output"], embedding.float().mean(dim=1))
    assert torch.equal(sockets.embedding_of([[tensor, options]], "positive", "C"), tensor)


def test_longer_conditioning_passes():
    (first,), (second,) = conditioning(24, seed=1), conditioning(24, seed=2)
    joined = [[torch.cat([first[0], second[0]], dim=1), first[1]]]
    assert sockets.embedding_of(joined, "positive", "C").shape == (1, 10, 24)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "positive is None; expected a CONDITIONING"),
        ([], "positive is an empty list"),
        ([torch.zeros(1, 2, 3)], "expected a pair of a tensor and a dictionary"),
        ([[torch.zeros(2, 3), {}]], r"a tensor of shape \[2, 3\]"),
        ([[torch.zeros(1, 2, 3, dtype=torch.long), {}]], "torch.int64"),
        ([["text", {}]], "holds 'text'"),
        ([[torch.full((1, 2, 3), NAN), {}]], "not numbers"),
        (conditioning(3) + conditioning(3), "holds 2 prompts .* Conditioning Concat"),
        ([[torch.zeros(1, 2, 3), {"area": (1, 1, 0, 0)}]], "carries an area .* Bypass"),
        ([[torch.zeros(1, 2, 3), {"mask": torch.ones(1, 4, 4)}]], "carries a mask"),
    ],
)
def test_what_is_no_plain_prompt_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        sockets.embedding_of(value, "positive", "C")


def test_a_prompt_for_the_other_stage_is_refused():
    for_b = sockets.conditioning_of(torch.zeros(1, 77, 24), "B")
    assert sockets.embedding_of(for_b, "positive", "B").shape == (1, 77, 24)
    with pytest.raises(InputError, match=r"positive is a prompt for Stage B; Stage C .* for_stage is C"):
        sockets.embedding_of(for_b, "positive", "C")


LATENT_READERS = [sockets.image_embeddings_of, sockets.stage_b_latents_of]


@pytest.mark.parametrize("read", LATENT_READERS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "latent is None; expected a LATENT"),
        (torch.zeros(1, 16, 6, 6), "latent is a tensor"),
        ({"images": 1}, "a dictionary with 'images'"),
        ({"samples": torch.zeros(16, 6, 6)}, r"shape \[16, 6, 6\]"),
        ({"samples": torch.zeros(0, 16, 6, 6)}, r"shape \[0, 16, 6, 6\]"),
        ({"samples": torch.zeros(1, 16, 6, 6, dtype=torch.uint8)}, "torch.uint8"),
        ({"samples": torch.zeros(1, 3, 6, 6)}, "3 channels, not a Würstchen latent"),
    ],
)
def test_what_is_no_latent_is_refused(read, value, message):
    with pytest.raises(InputError, match=message):
        read(value)


@pytest.mark.parametrize(("read", "channels"), [(LATENT_READERS[0], 16), (LATENT_READERS[1], 4)])
@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_a_latent_with_a_nan_is_refused(read, channels, bad):
    samples = torch.zeros(1, channels, 6, 6)
    samples[0, 1, 2, 3] = bad
    with pytest.raises(InputError, match="not numbers"):
        read({"samples": samples})


def test_a_latent_of_the_wrong_stage_says_where_it_goes():
    with pytest.raises(InputError, match=r"Stage B Decode's result .* goes to Stage A VQGAN Decode.*Stage C Sampler"):
        sockets.image_embeddings_of({"samples": torch.zeros(1, 4, 64, 64)})
    with pytest.raises(InputError, match="image embeddings have: connect them to Stage B Decode first"):
        sockets.stage_b_latents_of({"samples": torch.zeros(1, 16, 6, 6)})


@pytest.mark.parametrize("size", [(7, 6), (6, 8), (3, 195)])
def test_image_embeddings_of_a_size_without_a_match_are_refused(size):
    with pytest.raises(InputError, match="multiples of 3"):
        sockets.image_embeddings_of({"samples": torch.zeros(1, 16, *size)})


def test_latents_keep_what_they_carry():
    latent = {"samples": torch.zeros(1, 16, 6, 6), "batch_index": [2], "wuerstchen_size": (200, 256)}
    made = sockets.latent_of(torch.ones(1, 4, 64, 64, dtype=torch.float16), like=latent)
    assert made["samples"].dtype == torch.float32
    assert (made["batch_index"], made["wuerstchen_size"]) == ([2], (200, 256))
    assert latent["samples"].shape == (1, 16, 6, 6)


def test_seeds_follow_an_image_out_of_its_batch():
    three = {"samples": torch.zeros(3, 16, 6, 6)}
    assert sockets.seeds_of(7, three) == [7, 8, 9]
    assert sockets.seeds_of(7, {"samples": three["samples"][2:], "batch_index": [2]}) == [9]
    assert sockets.seeds_of(7, {**three, "batch_index": [5]}) == [7, 8, 9]


@pytest.mark.parametrize(
    ("asked", "drawn", "shown"),
    [
        ((256, 128), (128, 256), (128, 256)),
        ((200, 130), (256, 256), (130, 200)),
        ((200, 130), (512, 512), (512, 512)),
    ],
    ids=["whole steps", "rounded up", "resized on the way"],
)
def test_images_are_cropped_to_the_size_asked_for(asked, drawn, shown):
    images = torch.rand(2, *drawn, 3)
    cropped = sockets.crop_to_asked(images, {"samples": None, **sockets.asked_size(*asked)})
    assert cropped.shape == (2, *shown, 3)
    assert torch.equal(cropped, images[:, : shown[0], : shown[1]])


def test_an_image_is_bhwc():
    pixels = torch.rand(2, 3, 4, 8)
    image = sockets.image_of(pixels)
    assert image.shape == (2, 4, 8, 3) and image.is_contiguous()
    assert torch.equal(image[1, 2, 5], pixels[1, :, 2, 5])
