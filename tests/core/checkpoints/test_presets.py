"""Test the settings that suit each preset, and the warnings about sizes that do not."""

import pytest

from wuerstchen_core import InputError
from wuerstchen_core.checkpoints.presets import FAMILIES, PRESETS, family, size_warnings
from wuerstchen_core.geometry import Size


def test_every_preset_has_a_family():
    assert list(FAMILIES) == list(PRESETS)
    with pytest.raises(InputError, match="model is 'v3'"):
        family("v3")


@pytest.mark.parametrize("model", PRESETS)
def test_a_family_s_own_sizes_are_not_warned_of(model):
    known = family(model)
    for width in (known.smallest, family(model).natural_size, known.largest):
        for height in (known.smallest, known.largest):
            assert size_warnings(Size(width, height), model) == []


@pytest.mark.parametrize(
    ("size", "model", "says"),
    [
        (Size(640, 256), "cocktail", ["cocktail was trained on sides of 256 to 512 pixels; an image of 640x256"]),
        (Size(128, 256), "cocktail-base", ["cocktail was trained on"]),
        (Size(512, 512), "v2-base", ["Würstchen v2 was trained on sides of 1024 to 1536 pixels"]),
        (Size(300, 256), "cocktail", ["An image of 300x256 is drawn as 384x256 and cropped"]),
        (Size(200, 256), "cocktail", ["An image of 200x256 is drawn as 256x256 and cropped"]),
        (Size(600, 100), "cocktail", ["an image of 640x128", "An image of 600x100 is drawn as 640x128"]),
        (Size(4096, 128), "mine.safetensors", []),
        (Size(4096, 128), "", []),
        (Size(100, 128), "", ["An image of 100x128"]),
    ],
)
def test_sizes_that_do_not_fit_are_warned_of(size, model, says):
    found = size_warnings(size, model)
    assert len(found) == len(says)
    for text, expected in zip(found, says, strict=True):
        assert expected in text
        assert "\n" not in text
