"""Test timesteps and the noise schedule."""

import pytest
import torch

from wuerstchen_core import (
    DEFAULT_STAGE_C_TIMESTEPS,
    InputError,
    alpha_cumprod,
    early_timesteps,
    linear_timesteps,
    v2_timesteps,
)
from wuerstchen_core.sampling import check_timesteps
from wuerstchen_core.schedule import SCHEDULES

ALL = pytest.mark.parametrize("timesteps", list(SCHEDULES.values()), ids=list(SCHEDULES))


@ALL
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 12, 29, 60, 1000])
def test_timesteps_fall_from_1_to_0(timesteps, steps):
    ratios = timesteps(steps)
    assert len(ratios) == steps + 1
    assert ratios[0] == 1 and ratios[-1] == 0
    check_timesteps(ratios)


def test_v2_spends_two_thirds_of_its_steps_above_two_thirds():
    assert v2_timesteps(29) == DEFAULT_STAGE_C_TIMESTEPS
    assert v2_timesteps(29)[19] == pytest.approx(2 / 3)
    assert v2_timesteps(6) == pytest.approx([1, 11 / 12, 10 / 12, 9 / 12, 2 / 3, 1 / 3, 0])
    assert v2_timesteps(2) == pytest.approx([1, 2 / 3, 0])


def test_linear_is_even():
    assert linear_timesteps(4) == [1, 0.75, 0.5, 0.25, 0]


def test_early_steps_grow():
    assert early_timesteps(2) == pytest.approx([1, 80 / 81, 0])
    assert early_timesteps(3) == pytest.approx([1, 80 / 81, 65 / 81, 0])


@pytest.mark.parametrize("steps", [2, 3, 12])
@ALL
def test_every_step_removes_noise(timesteps, steps):
    assert (alpha_cumprod(torch.tensor(timesteps(steps))).diff() > 0).all()


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "12", None])
@ALL
def test_bad_number_of_steps(timesteps, steps):
    with pytest.raises(InputError, match="expected a whole number of at least 1"):
        timesteps(steps)


def test_alpha_cumprod_rises_towards_the_image_within_its_limits():
    values = alpha_cumprod(torch.linspace(1, 0, 50))
    assert values.dtype == torch.float32
    assert values[0] == pytest.approx(0.0001) and values[-1] == pytest.approx(0.9999)
    assert (values.diff() >= 0).all()
    assert alpha_cumprod(0.5).shape == ()
    assert alpha_cumprod(torch.zeros(2, 3, dtype=torch.float64)).shape == (2, 3)


@pytest.mark.parametrize(
    "timesteps", [[], [1.0], [1.0, 1.0, 0.0], [0.0, 1.0], [1.2, 0.0], [1.0, -0.1], [1.0, float("nan")]]
)
def test_timesteps_that_do_not_fall(timesteps):
    with pytest.raises(InputError, match="falling from 1 to 0"):
        check_timesteps(timesteps)
