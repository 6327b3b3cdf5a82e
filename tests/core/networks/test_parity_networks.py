"""Compare each network with that of diffusers, in float32 and half precision, on tiny random weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support import tiny
from wuerstchen_core import StageAConfig, StageBConfig, StageCConfig

FLOAT32 = 1e-5

STAGE_C_CASES = {
    "published ratios": (tiny.STAGE_C, 1, (3, 3), 77),
    "odd c_r, batch of 3, not square": (replace(tiny.STAGE_C, c_r=17, c=96, nhead=3), 3, (6, 9), 20),
    "one position, one token, many heads": (replace(tiny.STAGE_C, c=32, nhead=8, depth=3, c_in=4), 2, (1, 1), 1),
    "long text": (replace(tiny.STAGE_C, c_cond=48, c_r=64), 2, (12, 4), 154),
}


def _stage_c_inputs(config: StageCConfig, batch: int, size: tuple[int, int], tokens: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(99)
    return (
        torch.randn(batch, config.c_in, *size, generator=generator),
        torch.rand(batch, generator=generator),
        torch.randn(batch, tokens, config.c_cond, generator=generator),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", STAGE_C_CASES.values(), ids=STAGE_C_CASES.keys())
def test_stage_c_equals_diffusers(case, seed):
    config, *shape = case
    network = tiny.stage_c(config, seed)
    x, t, text = _stage_c_inputs(config, *shape)
    assert tiny.relative_error(network(x, t, text), tiny.diffusers_twin(network)(x, t, text)) < FLOAT32


STAGE_B_CASES = {
    "three levels": (tiny.STAGE_B, 1, (3, 3), 77),
    "odd c_r, batch of 2, not square": (replace(tiny.STAGE_B, c_r=9), 2, (3, 6), 11),
    "attention and embeddings at every level, larger kernel": (
        replace(
            tiny.STAGE_B,
            c_hidden=(16, 24),
            nhead=(2, 3),
            blocks=(2, 1),
            level_config=("CTA", "CAT"),
            inject_effnet=(True, True),
            kernel_size=5,
            effnet_embd=8,
        ),
        3,
        (3, 3),
        5,
    ),
    "a level that begins without a residual block, no embeddings, larger patch": (
        replace(
            tiny.STAGE_B,
            c_hidden=(16, 16),
            nhead=(-1, 4),
            blocks=(1, 2),
            level_config=("TC", "CA"),
            inject_effnet=(False, False),
            patch_size=4,
        ),
        2,
        (3, 3),
        7,
    ),
}


def _stage_b_inputs(config: StageBConfig, batch: int, size: tuple[int, int], tokens: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(98)
    latent = [int(side * 10.67) for side in size]
    return (
        torch.randn(batch, config.c_in, *latent, generator=generator),
        torch.rand(batch, generator=generator),
        torch.randn(batch, config.effnet_embd, *size, generator=generator),
        torch.randn(batch, tokens, config.clip_embd, generator=generator),
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", STAGE_B_CASES.values(), ids=STAGE_B_CASES.keys())
def test_stage_b_equals_diffusers(case, seed):
    config, *shape = case
    network = tiny.stage_b(config, seed)
    inputs = _stage_b_inputs(config, *shape)
    assert tiny.relative_error(network(*inputs), tiny.diffusers_twin(network)(*inputs)) < FLOAT32


STAGE_A_CASES = {
    "two levels": (tiny.STAGE_A, (1, 8, 8)),
    "one level, batch of 3, not square": (replace(tiny.STAGE_A, levels=1, embed_dim=6), (3, 4, 12)),
    "three levels, larger patch": (replace(tiny.STAGE_A, levels=3, up_down_scale_factor=4, embed_dim=24), (2, 3, 5)),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", STAGE_A_CASES.values(), ids=STAGE_A_CASES.keys())
def test_stage_a_equals_diffusers(case: tuple[StageAConfig, tuple[int, int, int]], seed: int):
    config, (batch, height, width) = case
    network = tiny.stage_a(config, seed)
    twin = tiny.diffusers_twin(network)
    latents = torch.randn(batch, config.latent_channels, height, width, generator=torch.Generator().manual_seed(97))
    side = config.up_down_scale_factor * 2 ** (config.levels - 1)
    images = torch.rand(batch, 3, height * side, width * side, generator=torch.Generator().manual_seed(96))
    assert tiny.relative_error(network.decode(latents), twin.decode(latents).sample) < FLOAT32
    assert tiny.relative_error(network.encode(images), twin.encode(images, return_dict=False)[0]) < FLOAT32
    assert tiny.relative_error(network.vquantizer(latents), twin.vquantizer(latents)[0]) < FLOAT32


def _rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_stage_c_in_half_precision_errs_no_more_than_diffusers(dtype, seed):
    network = tiny.stage_c(replace(tiny.STAGE_C, depth=4, c_r=64), seed)
    inputs = _stage_c_inputs(network.config, 8, (6, 6), 77)
    twin = tiny.diffusers_twin(network)
    exact = twin(*inputs)
    ours = network.to(dtype)(*inputs)
    theirs = twin.to(dtype)(*(each.to(dtype) for each in inputs))
    assert ours.dtype == torch.float32
    assert 0 < _rms(ours - exact) <= _rms(theirs.float() - exact)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_stage_b_in_half_precision_errs_no_more_than_diffusers(dtype, seed):
    network = tiny.stage_b(replace(tiny.STAGE_B, c_r=64), seed)
    inputs = _stage_b_inputs(network.config, 4, (6, 6), 77)
    twin = tiny.diffusers_twin(network)
    exact = twin(*inputs)
    ours = network.to(dtype)(*inputs)
    theirs = twin.to(dtype)(*(each.to(dtype) for each in inputs))
    assert 0 < _rms(ours - exact) <= _rms(theirs.float() - exact)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_timesteps_stay_float32_in_half_precision(dtype):
    close = torch.tensor([0.50001]), torch.tensor([0.5001])
    assert close[0].to(dtype) == close[1].to(dtype)
    x, _, text = _stage_c_inputs(tiny.STAGE_C, 1, (3, 3), 5)
    stage_c = tiny.stage_c().to(dtype)
    assert not torch.equal(*(stage_c(x, t, text) for t in close))
    x, _, embeddings, text = _stage_b_inputs(tiny.STAGE_B, 1, (3, 3), 5)
    stage_b = tiny.stage_b().to(dtype)
    assert not torch.equal(*(stage_b(x, t, embeddings, text) for t in close))
