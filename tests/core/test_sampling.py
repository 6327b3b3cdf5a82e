"""Test the denoising loop and the four steps of the model: seeds, guidance, callbacks, errors."""

import pytest
import torch

from support import tiny
from wuerstchen_core import InputError, decode_stage_a, encode_stage_a, linear_timesteps, sample_stage_b, sample_stage_c
from wuerstchen_core.sampling import NoiseSource, ddpm_step, denoised_estimate, sample, with_guidance
from wuerstchen_core.schedule import alpha_cumprod

CPU = torch.device("cpu")
TEXT = torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(0))
FEW = linear_timesteps(5)


def _stage_c(seeds, **options):
    shared = {"width": 256, "height": 128, "timesteps": FEW, **options}
    return sample_stage_c(tiny.stage_c(), TEXT, seeds=seeds, **shared)


def _stage_b(seeds, **options):
    embeddings = torch.randn(1, 16, 3, 3, generator=torch.Generator().manual_seed(1)).expand(len(seeds), -1, -1, -1)
    return sample_stage_b(tiny.stage_b(), embeddings, TEXT, seeds=seeds, timesteps=FEW, **options)


def test_noise_of_an_image_is_the_same_alone_and_in_any_batch():
    batch, alone = NoiseSource([5, 6, 7], (4, 2, 3), CPU), NoiseSource([6], (4, 2, 3), CPU)
    for _ in range(3):
        assert torch.equal(batch.draw()[1:2], alone.draw())
    first = NoiseSource([6], (4, 2, 3), CPU).draw()
    assert torch.equal(first, torch.randn(1, 4, 2, 3, generator=torch.Generator("cpu").manual_seed(6)))


def test_any_whole_number_is_a_seed():
    huge = NoiseSource([2**64 + 3, -1], (1, 2, 2), CPU).draw()
    same = NoiseSource([3, 2**64 - 1], (1, 2, 2), CPU).draw()
    assert torch.equal(huge, same)


@pytest.mark.parametrize("run", [_stage_c, _stage_b])
@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_an_image_is_the_same_alone_and_in_a_batch(run, guidance):
    batch = run([10, 11, 12], guidance_scale=guidance)
    for i, seed in enumerate([10, 11, 12]):
        assert tiny.relative_error(batch[i : i + 1], run([seed], guidance_scale=guidance)) < 1e-5
    assert not torch.allclose(batch[0], batch[1], atol=0.1)


@pytest.mark.parametrize("run", [_stage_c, _stage_b])
def test_the_same_seeds_give_the_same_bits(run):
    assert torch.equal(run([3, 4], guidance_scale=3.0), run([3, 4], guidance_scale=3.0))


def test_a_perfect_denoiser_arrives_at_the_image():
    image = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(2))

    def knows(x, t):
        signal = alpha_cumprod(t[0])
        return (x - image * signal.sqrt()) / (1 - signal).sqrt()

    noise = NoiseSource([0], (4, 3, 3), CPU)
    told = []
    result = sample(knows, noise.draw(), linear_timesteps(20), noise, told.append)
    assert tiny.relative_error(result, image) < 0.02
    assert all(tiny.relative_error(step.denoised, image) < 1e-2 for step in told)


def test_denoised_estimate_undoes_the_noise():
    image, noise = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(3))
    signal = alpha_cumprod(0.4)
    noised = image * signal.sqrt() + noise * (1 - signal).sqrt()
    assert torch.allclose(denoised_estimate(noised, noise, 0.4), image, atol=1e-5)


def test_the_last_step_adds_no_noise():
    x, noise, fresh = torch.randn(3, 1, 4, 3, 3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(ddpm_step(x, noise, 0.1, 0.0, fresh), ddpm_step(x, noise, 0.1, 0.0, fresh * 9))
    assert not torch.equal(ddpm_step(x, noise, 0.2, 0.1, fresh), ddpm_step(x, noise, 0.2, 0.1, fresh * 9))


def test_callback_hears_of_every_step_and_can_cancel():
    told = []
    _stage_c([1, 2], callback=told.append)
    assert [(step.index, step.count) for step in told] == [(i, 5) for i in range(5)]
    assert [step.timestep_ratio for step in told] == FEW[:-1]
    assert told[0].latents.shape == told[0].denoised.shape == (2, 16, 3, 6)

    class Cancelled(Exception):
        pass

    def cancel(step):
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        _stage_c([1], callback=cancel)


def test_guidance_is_linear_and_1_is_the_conditional():
    calls = []

    def predict(x, t, condition):
        calls.append(len(x))
        return condition.expand_as(x)

    x, t = torch.zeros(2, 1, 1, 1), torch.ones(2)
    with_text, without = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 1.0)
    assert with_guidance(predict, (with_text,), (without,), 4.0)(x, t).unique().item() == 9
    assert with_guidance(predict, (with_text,), (without,), 1.0)(x, t).unique().item() == 3
    assert with_guidance(predict, (with_text,), None, 4.0)(x, t).unique().item() == 3
    assert calls == [4, 4, 2], "conditions of equal shapes share one call of twice the batch"


def test_texts_of_different_lengths_guide_each_other():
    long = torch.cat([TEXT, TEXT * 0.5], dim=1)
    one, other = _stage_c([1], negative=TEXT), _stage_c([1], negative=long)
    assert one.shape == other.shape
    assert not torch.allclose(one, other, atol=1e-3)


def test_no_negative_is_all_zeros():
    assert torch.equal(_stage_c([1]), _stage_c([1], negative=torch.zeros_like(TEXT)))
    assert torch.equal(_stage_b([1], guidance_scale=2.0), _stage_b([1], guidance_scale=2.0, negative=TEXT * 0))


def test_guidance_of_1_or_less_is_none():
    assert torch.equal(_stage_c([1], guidance_scale=1.0), _stage_c([1], guidance_scale=0.0, negative=TEXT))


def test_stage_b_goes_without_text():
    embeddings = torch.randn(1, 16, 3, 3)
    latents = sample_stage_b(tiny.stage_b(), embeddings, seeds=[1], timesteps=FEW, guidance_scale=2.0)
    assert latents.shape == (1, 4, 32, 32)
    assert latents.isfinite().all()


def test_given_latents_replace_the_first_draw():
    start = torch.zeros(1, 16, 3, 6)
    assert not torch.allclose(_stage_c([1], latents=start), _stage_c([1]))
    with pytest.raises(InputError, match=r"latents has shape \[1, 16, 9, 9\]; expected \[1, 16, 3, 6\]"):
        _stage_c([1], latents=torch.zeros(1, 16, 9, 9))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: _stage_c([]), "seeds is empty"),
        (lambda: _stage_c([1], width=0), "width is 0"),
        (lambda: _stage_c([1], timesteps=[0.0, 1.0]), "falling from 1 to 0"),
        (lambda: sample_stage_c(tiny.stage_c(), TEXT[..., :8], seeds=[1]), r"positive has shape \[1, 77, 8\].*Stage C"),
        (
            lambda: _stage_c([1], negative=torch.zeros(2, 77, 32)),
            r"negative has shape \[2, 77, 32\].*\[1 or 1, tokens, 32\]",
        ),
        (lambda: sample_stage_c(tiny.stage_c(), TEXT[0], seeds=[1]), "positive has shape"),
        (lambda: sample_stage_b(tiny.stage_b(), torch.zeros(1, 4, 32, 32), seeds=[1]), "Stage A's latents"),
        (lambda: sample_stage_b(tiny.stage_b(), torch.zeros(2, 16, 3, 3), seeds=[1]), "one seed an image"),
        (lambda: sample_stage_b(tiny.stage_b(), torch.zeros(1, 16, 3, 3), TEXT[..., :8], seeds=[1]), "Stage B"),
        (lambda: sample_stage_b(tiny.stage_b(), torch.zeros(1, 16, 3, 4), seeds=[1]), "multiples of 3"),
        (lambda: decode_stage_a(tiny.stage_a(), torch.zeros(1, 16, 3, 3)), "go through Stage B first"),
        (lambda: decode_stage_a(tiny.stage_a(), torch.zeros(4, 32, 32)), "expected \\[batch, 4, height, width\\]"),
        (lambda: encode_stage_a(tiny.stage_a(), torch.zeros(1, 3, 30, 32)), "sides divisible by 4"),
        (lambda: encode_stage_a(tiny.stage_a(), torch.zeros(1, 4, 32, 32)), r"expected \[batch, 3, height, width\]"),
    ],
)
def test_wrong_tensors(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_encoding_is_in_the_scale_that_decoding_takes():
    network = tiny.stage_a()
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(5))
    latents = encode_stage_a(network, images)
    assert latents.shape == (2, 4, 8, 16)
    assert torch.allclose(latents * network.config.scale_factor, network.encode(images), atol=1e-6)
    decoded = decode_stage_a(network, latents)
    assert torch.allclose(decoded, network.decode(network.encode(images)).clamp(0, 1), atol=1e-5)
    assert decoded.min() >= 0 and decoded.max() <= 1
