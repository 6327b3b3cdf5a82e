"""The stock nodes for masks and for two images, on files and arrays whose result can be told by hand."""

import numpy
import pytest
import torch
from PIL import Image

from wuerstchen_core.errors import InputError
from wuerstchen_nodes.headless.stock.blends import ImageBatch, ImageBlend
from wuerstchen_nodes.headless.stock.images import LoadImage
from wuerstchen_nodes.headless.stock.masks import ImageCompositeMasked, LoadImageMask, SetLatentNoiseMask
from wuerstchen_nodes.host import using


def image(height: int, width: int, value: float, batch: int = 1) -> torch.Tensor:
    return torch.full((batch, height, width, 3), value)


@pytest.mark.parametrize(("channel", "expected"), [("alpha", 0.6), ("red", 0.2), ("green", 0.4), ("blue", 0.8)])
def test_load_image_mask_takes_one_channel(host, tmp_path, channel, expected):
    Image.new("RGBA", (4, 2), (51, 102, 204, 102)).save(tmp_path / "in.png")
    with using(host):
        (mask,) = LoadImageMask().load(str(tmp_path / "in.png"), channel)
    assert mask.shape == (1, 2, 4) and torch.allclose(mask, torch.full((1, 2, 4), expected))


def test_load_image_mask_of_a_picture_without_alpha_keeps_all(host, tmp_path):
    Image.new("L", (4, 2), 255).save(tmp_path / "in.png")
    with using(host):
        assert LoadImageMask().load(str(tmp_path / "in.png"), "alpha")[0].max() == 0
        assert LoadImageMask().load(str(tmp_path / "in.png"), "red")[0].min() == 1
        before = LoadImageMask.IS_CHANGED(str(tmp_path / "in.png"), "red")
        Image.new("L", (4, 2), 254).save(tmp_path / "in.png")
        assert LoadImageMask.IS_CHANGED(str(tmp_path / "in.png"), "red") != before


def test_what_is_no_picture(host, tmp_path):
    (tmp_path / "text.png").write_bytes(b"text")
    for load in (lambda name: LoadImageMask().load(name, "red"), LoadImage().load):
        with using(host), pytest.raises(InputError, match="cannot be read as an image"):
            load(str(tmp_path / "text.png"))
        with using(host), pytest.raises(InputError, match="There is no file"):
            load(str(tmp_path / "none.png"))
    assert LoadImageMask.VALIDATE_INPUTS(None) is True


def test_a_picture_of_very_many_pixels_is_refused_before_it_is_read(host, tmp_path, monkeypatch):
    Image.new("1", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 63)
    with using(host), pytest.raises(InputError, match="is too large an image"):
        LoadImageMask().load(str(tmp_path / "large.png"), "red")


def test_set_latent_noise_mask_adds_the_mask_and_changes_nothing_else():
    latent = {"samples": torch.zeros(1, 16, 6, 6), "wuerstchen_size": (200, 200)}
    (masked,) = SetLatentNoiseMask().set_mask(latent, torch.ones(2, 8, 8))
    assert masked["noise_mask"].shape == (2, 1, 8, 8) and "noise_mask" not in latent
    assert masked["samples"] is latent["samples"] and masked["wuerstchen_size"] == (200, 200)


def test_image_composite_masked_lays_one_image_over_another():
    below, above = image(4, 6, 0.25, batch=2), image(2, 3, 1.0)
    (result,) = ImageCompositeMasked().composite(below, above, 4, 3, False)
    expected = below.clone()
    expected[:, 3:4, 4:6] = 1
    assert torch.equal(result, expected) and below.max() == 0.25
    mask = torch.zeros(1, 4, 6)
    mask[:, :, 3:] = 1
    (result,) = ImageCompositeMasked().composite(below, image(4, 6, 0.7), 0, 0, False, mask)
    assert torch.equal(result[:, :, :3], below[:, :, :3]) and torch.equal(result[:, :, 3:], image(4, 3, 0.7, batch=2))
    (result,) = ImageCompositeMasked().composite(below, image(8, 8, 0.5), 0, 0, True)
    assert torch.allclose(result, image(4, 6, 0.5, batch=2))


def test_images_that_are_laid_outside_change_nothing():
    below = image(4, 6, 0.25)
    assert torch.equal(ImageCompositeMasked().composite(below, image(2, 2, 1.0), 6, 0, False)[0], below)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("normal", 0.5), ("multiply", 0.4), ("screen", 0.9), ("overlay", 0.8), ("difference", 0.3), ("soft_light", 0.8)],
)
def test_image_blend(mode, expected):
    (whole,) = ImageBlend().blend(image(2, 2, 0.8), image(2, 2, 0.5), 1.0, mode)
    assert torch.allclose(whole, image(2, 2, expected), atol=1e-6)
    (half,) = ImageBlend().blend(image(2, 2, 0.8), image(2, 2, 0.5), 0.5, mode)
    assert torch.allclose(half, image(2, 2, (expected + 0.8) / 2), atol=1e-6)
    (clamped,) = ImageBlend().blend(image(2, 2, 0.2), image(2, 2, 0.5), 1.0, "difference")
    assert clamped.max() == 0


def test_batch_images_and_sizes_that_differ():
    (both,) = ImageBatch().batch(image(2, 3, 0.1), image(2, 3, 0.9, batch=2))
    assert numpy.allclose(both[:, 0, 0, 0].numpy(), [0.1, 0.9, 0.9])
    for join in (lambda a, b: ImageBatch().batch(a, b), lambda a, b: ImageBlend().blend(a, b, 0.5, "normal")):
        with pytest.raises(InputError, match=r"The two images are 3 x 2 and 2 x 3 pixels; expected one size"):
            join(image(2, 3, 0.1), image(3, 2, 0.1))


def test_batches_that_are_too_large_together_are_not_joined(monkeypatch):
    assert len(ImageBatch().batch(image(2, 2, 0.1, batch=600), image(2, 2, 0.1, batch=400))[0]) == 1000
    with pytest.raises(InputError, match=r"1,001 images and 4,004 pixels together; expected at most 1,000 images"):
        ImageBatch().batch(image(2, 2, 0.1, batch=601), image(2, 2, 0.1, batch=400))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"3 images and 12 pixels together; expected .* 10 pixels"):
        ImageBatch().batch(image(2, 2, 0.1), image(2, 2, 0.1, batch=2))


def test_a_composite_resizes_only_the_sources_and_masks_that_it_needs(monkeypatch):
    resize, resized = torch.nn.functional.interpolate, []

    def watched(values, **options):
        resized.append(len(values))
        return resize(values, **options)

    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    many = image(1, 1, 0.5, batch=1000)
    (result,) = ImageCompositeMasked().composite(image(4, 6, 0.25), many, 0, 0, True, many[..., 0])
    assert resized == [1, 1] and torch.allclose(result, image(4, 6, 0.375))
