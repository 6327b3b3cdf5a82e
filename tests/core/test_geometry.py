"""Test sizes: 128 pixels are 3 positions of Stage C and 32 of Stage B, everywhere in the range."""

import pytest

from wuerstchen_core import InputError
from wuerstchen_core.geometry import MAX_SIZE, STEP, Size, stage_b_size


@pytest.mark.parametrize("steps", range(1, MAX_SIZE // STEP + 1))
def test_every_whole_step_agrees_between_the_stages(steps):
    size = Size(steps * STEP, STEP)
    assert size.rounded == size
    height, width = size.stage_c
    assert (height, width) == (3, 3 * steps)
    assert stage_b_size(height, width) == (32, 32 * steps)


@pytest.mark.parametrize(
    "asked, drawn",
    [((1, 1), (128, 128)), ((129, 128), (256, 128)), ((1000, 1500), (1024, 1536)), ((8192, 8191), (8192, 8192))],
)
def test_other_sizes_are_rounded_up(asked, drawn):
    assert Size(*asked).rounded == Size(*drawn)
    assert Size(*asked).stage_c == Size(*drawn).stage_c


@pytest.mark.parametrize("value", [0, -128, 8193, 100000, 256.0, "256", True, None])
def test_bad_sizes(value):
    with pytest.raises(InputError, match=r"width is .*expected a whole number of pixels from 1 to 8192"):
        Size(value, 128)
    with pytest.raises(InputError, match="height is "):
        Size(128, value)
