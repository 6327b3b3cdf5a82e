"""Image to image and masks in the samplers, against the loop by diffusers' scheduler and networks."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from support import tiny
from wuerstchen_core import (
    DEFAULT_STAGE_B_TIMESTEPS,
    DEFAULT_STAGE_C_TIMESTEPS,
    InputError,
    encode_stage_a,
    sample_stage_b,
    sample_stage_c,
    v2_timesteps,
)
from wuerstchen_core.images import mask_of_positions, pad_to_steps
from wuerstchen_core.sampling import add_noise
from wuerstchen_core.schedule import last_steps, whole_steps
from wuerstchen_core.stages import MASK_SEED

diffusers = tiny.diffusers()
WHOLE_LOOP = 3e-5
SEEDS = [21, 22]


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _by_diffusers(twin, start, timesteps, strength, condition):
    """Change `start` as a user of diffusers' scheduler and network would."""
    scheduler = diffusers.DDPMWuerstchenScheduler()
    steps = round((len(timesteps) - 1) * strength)
    ratios = torch.tensor(timesteps)[-(steps + 1) :]
    scheduler.set_timesteps(timesteps=list(ratios))
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    noise = torch.cat([torch.randn(1, *start.shape[1:], generator=each) for each in generators])
    x = scheduler.add_noise(start, noise, ratios[:1])
    for t in scheduler.timesteps[:-1]:
        predicted = twin(x, t.expand(len(SEEDS)), *condition)
        x = scheduler.step(predicted, t.expand(len(SEEDS)), x, generator=generators).prev_sample
    return x


@pytest.mark.parametrize("strength", [0.1, 0.45, 0.7])
@pytest.mark.parametrize("seed", [0, 1])
def test_stage_c_equals_diffusers(strength, seed):
    network = tiny.stage_c(seed=seed)
    text, start = _randn(1, 77, network.config.c_cond, seed=3), _randn(2, 16, 6, 9, seed=4)
    timesteps = [float(t) for t in DEFAULT_STAGE_C_TIMESTEPS]
    with torch.no_grad():
        reference = _by_diffusers(tiny.diffusers_twin(network), start, timesteps, strength, (text.expand(2, -1, -1),))
    ours = sample_stage_c(
        network, text, width=384, height=256, seeds=SEEDS, guidance_scale=1, start=start * 42 - 1, strength=strength
    )
    assert tiny.relative_error((ours + 1) / 42, reference) < WHOLE_LOOP


@pytest.mark.parametrize("strength", [0.25, 0.75])
def test_stage_b_equals_diffusers(strength):
    network = tiny.stage_b()
    embeddings, start = _randn(2, 16, 3, 3, seed=5), _randn(2, 4, 32, 32, seed=6)
    text = _randn(2, 77, network.config.clip_embd, seed=7)
    timesteps = list(DEFAULT_STAGE_B_TIMESTEPS)
    with torch.no_grad():
        reference = _by_diffusers(tiny.diffusers_twin(network), start, timesteps, strength, (embeddings, text))
    ours = sample_stage_b(network, embeddings, text, seeds=SEEDS, start=start, strength=strength)
    assert tiny.relative_error(ours, reference) < WHOLE_LOOP


def test_noise_is_added_as_diffusers_does_and_alone_at_the_start():
    scheduler, clean, noise = diffusers.DDPMWuerstchenScheduler(), _randn(2, 4, 5, 5), _randn(2, 4, 5, 5, seed=1)
    for t in (0.0, 0.3, 0.999):
        reference = scheduler.add_noise(clean, noise, torch.tensor([t]))
        assert tiny.relative_error(add_noise(clean, noise, t), reference) < 1e-6
    assert torch.equal(add_noise(clean, noise, 1.0), noise)


def test_the_end_of_a_schedule_has_the_steps_that_were_asked_for():
    for steps in (1, 2, 7, 29, 100):
        for strength in (0.01, 0.1, 0.3, 0.5, 0.6, 0.99, 1.0):
            ratios = last_steps(v2_timesteps(whole_steps(steps, strength)), strength)
            assert len(ratios) == steps + 1 and ratios[-1] == 0
            assert all(a > b for a, b in pairwise(ratios))
    assert last_steps(v2_timesteps(29), 1.0) == v2_timesteps(29)


def _c(**options) -> torch.Tensor:
    network = tiny.stage_c()
    text, without = _randn(2, 1, 77, network.config.c_cond, seed=3)
    return sample_stage_c(
        network, text, without, width=256, height=256, seeds=SEEDS, timesteps=v2_timesteps(5), **options
    )


def _b(**options) -> torch.Tensor:
    network = tiny.stage_b()
    return sample_stage_b(network, _randn(2, 16, 6, 6, seed=5), seeds=SEEDS, timesteps=[1.0, 0.7, 0.3, 0.0], **options)


@pytest.mark.parametrize(("sample", "shape"), [(_c, (2, 16, 6, 6)), (_b, (2, 4, 64, 64))])
def test_full_strength_and_a_mask_of_ones_are_text_to_image_to_the_byte(sample, shape):
    start, plain = _randn(*shape, seed=8), sample()
    assert torch.equal(sample(start=start), plain)
    assert torch.equal(sample(start=start, mask=torch.ones(1, 1, 256, 256)), plain)
    assert torch.equal(sample(start=start[:1], mask=torch.ones(2, 1, 7, 5)), plain)
    assert not torch.equal(sample(start=start, strength=0.5), plain)


@pytest.mark.parametrize(("sample", "shape"), [(_c, (2, 16, 6, 6)), (_b, (2, 4, 64, 64))])
def test_what_a_mask_leaves_out_stays(sample, shape):
    start = _randn(*shape, seed=8)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 130:] = 1
    drawn = sample(start=start, mask=mask)
    changed = ((drawn - start).abs() > 1e-4).any(dim=1).any(dim=1)
    half = shape[-1] // 2
    assert not changed[:, :half].any() and changed[:, half:].all()
    nothing = sample(start=start, mask=torch.zeros(1, 1, 256, 256))
    assert torch.allclose(nothing, start, atol=1e-4)


def test_the_masks_noise_is_of_another_generator_than_the_runs(monkeypatch):
    from wuerstchen_core import stages

    seen = []

    class Source(stages.NoiseSource):
        def __init__(self, seeds, *more):
            seen.append(list(seeds))
            super().__init__(seeds, *more)

    monkeypatch.setattr(stages, "NoiseSource", Source)
    mask = torch.ones(1, 1, 8, 8)
    mask[..., :4] = 0
    _c(start=_randn(1, 16, 6, 6), mask=mask)
    assert seen == [SEEDS, [seed + MASK_SEED for seed in SEEDS]]


@pytest.mark.parametrize("offset", [0, 1, 42, 43, 85, 127, 128, 129, 255])
def test_a_position_is_drawn_anew_where_one_of_its_pixels_is(offset):
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., offset, offset] = 1
    for positions in (6, 64):
        reduced = mask_of_positions(mask, positions, positions)
        marked = reduced.nonzero()[:, 2:].tolist()
        here = offset * positions // 256
        assert [here, here] in marked
        assert all(abs(row - here) <= 1 and abs(column - here) <= 1 for row, column in marked)


def test_values_between_blend():
    mask = torch.full((1, 1, 4, 4), 0.25)
    mask[..., 2:] = 7.0  # as if painted over the limit
    reduced = mask_of_positions(mask, 2, 2)
    assert reduced.tolist() == [[[[0.25, 1.0], [0.25, 1.0]]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": torch.zeros(2, 16, 6, 9)}, r"start has shape \[2, 16, 6, 9\]; expected \[1 or 2, 16, 6, 6\]"),
        ({"start": torch.zeros(3, 16, 6, 6)}, r"expected \[1 or 2, 16, 6, 6\]"),
        ({"start": torch.zeros(1, 4, 64, 64)}, r"expected \[1 or 2, 16, 6, 6\]"),
        ({"start": torch.zeros(1, 16, 6, 6), "strength": 0.0}, "strength is 0.0; expected a number from 0.001"),
        ({"start": torch.zeros(1, 16, 6, 6), "strength": 1.5}, "strength is 1.5"),
        ({"start": torch.zeros(1, 16, 6, 6), "strength": 1e-9}, "strength is 1e-09"),
        ({"strength": 0.5}, "give them as start"),
        ({"mask": torch.ones(1, 1, 8, 8)}, "give them as start"),
        ({"start": torch.zeros(1, 16, 6, 6), "mask": torch.ones(8, 8)}, r"mask has shape \[8, 8\]"),
        ({"start": torch.zeros(1, 16, 6, 6), "mask": torch.ones(3, 1, 8, 8)}, "mask has 3 masks; expected 1, or 2"),
        ({"start": torch.zeros(1, 16, 6, 6), "mask": torch.full((1, 1, 2, 2), float("nan"))}, "not numbers"),
    ],
)
def test_what_does_not_fit_is_said(options, message):
    with pytest.raises(InputError, match=message):
        _c(**options)


def test_an_image_is_filled_up_at_the_right_and_the_bottom():
    image = _randn(1, 3, 130, 5)
    padded = pad_to_steps(image)
    assert padded.shape == (1, 3, 256, 128)
    assert torch.equal(padded[..., :130, :5], image)
    assert torch.equal(padded[..., 200, 100], image[..., 129, 4])
    assert pad_to_steps(padded) is padded
    latents = encode_stage_a(tiny.stage_a(), padded)
    assert latents.shape == (1, 4, 64, 32)
    assert F.adaptive_max_pool2d(pad_to_steps(torch.ones(1, 1, 130, 5)), (64, 32)).min() == 1
