"""Compare the folded, cached and in-place forms of the networks with their plain form.

The plain form runs where gradients are recorded, or where a host's layers must be called.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from wuerstchen_core.networks.blocks import Folded

FLOAT32 = 1e-5


class _CalledLinear(nn.Linear):
    """A host's layer, which must be called because its weights may be elsewhere."""


class _CalledConv2d(nn.Conv2d):
    """A host's layer, like `_CalledLinear`."""


class _CalledLayers:
    Linear = _CalledLinear
    Conv2d = _CalledConv2d
    ConvTranspose2d = nn.ConvTranspose2d


def _called(network: Any) -> Any:
    """Return the same network with a host's layers."""
    other = type(network)(network.config, _CalledLayers)
    other.load_state_dict(network.state_dict())
    return other.eval().requires_grad_(False)


def _random(*shape: int, seed: int = 90) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _stage_b_inputs(batch: int) -> tuple[torch.Tensor, ...]:
    return _random(batch, 4, 32, 64), torch.full((batch,), 0.4), _random(batch, 16, 3, 6), _random(batch, 9, 32)


STAGE_B_CONFIGS = {
    "as published": tiny.STAGE_B,
    "attention first, embeddings everywhere": replace(
        tiny.STAGE_B,
        c_hidden=(16, 24),
        nhead=(2, 3),
        blocks=(2, 1),
        level_config=("CTA", "ACT"),
        inject_effnet=(True, True),
        kernel_size=5,
        effnet_embd=16,
    ),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("config", STAGE_B_CONFIGS.values(), ids=STAGE_B_CONFIGS.keys())
def test_stage_b_folded_equals_the_plain_form(config, batch):
    network = tiny.stage_b(config)
    x, t, embeddings, text = _stage_b_inputs(batch)
    plain = network(x, t, embeddings, text)  # with gradients switched on
    with torch.inference_mode():
        condition = network.condition(embeddings, text, x.shape[-2:])
        folded = network.predict(x, t, condition)
        again = network.predict(x, t, condition)
        called = _called(network)(x, t, embeddings, text)
    assert any(isinstance(block, Folded) for level in condition.levels for block in level)
    assert torch.equal(folded, again), "a condition is not used up"
    assert tiny.relative_error(folded, plain) < FLOAT32
    assert tiny.relative_error(called, plain) < FLOAT32
    assert not torch.equal(folded, called), "layers that may only be called were read"


def test_stage_b_folded_without_text_equals_the_plain_form():
    network = tiny.stage_b()
    x, t, embeddings, _ = _stage_b_inputs(2)
    plain = network(x, t, embeddings, None)
    with torch.inference_mode():
        assert tiny.relative_error(network(x, t, embeddings, None), plain) < FLOAT32


def test_stage_b_conditions_follow_the_weights():
    network = tiny.stage_b()
    x, t, embeddings, text = _stage_b_inputs(1)
    with torch.inference_mode():
        before = network(x, t, embeddings, text)
        network.load_state_dict(tiny.stage_b(seed=1).state_dict())
        after = network(x, t, embeddings, text)
    assert tiny.relative_error(after, tiny.stage_b(seed=1)(x, t, embeddings, text)) < FLOAT32
    assert tiny.relative_error(after, before) > 0.1


def test_stage_c_in_place_equals_the_plain_form():
    network = tiny.stage_c()
    x, t, text = _random(2, 16, 6, 3), torch.tensor([0.9, 0.2]), _random(2, 20, 32)
    given = x.clone()
    plain = network(x, t, text)
    with torch.inference_mode():
        condition = network.condition(text)
        assert tiny.relative_error(network.predict(x, t, condition), plain) < FLOAT32
        assert torch.equal(network.predict(x, t, condition), network(x, t, text))
    assert torch.equal(x, given), "the caller's tensor was written over"


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 16, 8), (1, 96, 64)])
def test_stage_a_folded_equals_the_plain_form(shape):
    batch, height, width = shape
    network = tiny.stage_a()
    latents = _random(batch, 4, height, width)
    given = latents.clone()
    plain = network.decode(latents)
    with torch.inference_mode():
        assert tiny.relative_error(network.decode(latents), plain) < FLOAT32
        assert tiny.relative_error(_called(network).decode(latents), plain) < FLOAT32
    assert torch.equal(latents, given), "the caller's tensor was written over"


def _rms(difference: torch.Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_in_half_precision_the_fast_forms_err_no_more_than_diffusers(dtype, seed):
    x, t, embeddings, text = _stage_b_inputs(4)
    cases = [
        (
            tiny.stage_c(replace(tiny.STAGE_C, depth=4, c_r=64), seed),
            (_random(8, 16, 6, 6), t.repeat(2), _random(8, 77, 32)),
        ),
        (tiny.stage_b(replace(tiny.STAGE_B, c_r=64), seed), (x, t, embeddings, text)),
    ]
    for network, inputs in cases:
        twin = tiny.diffusers_twin(network)
        with torch.inference_mode():
            exact = twin(*inputs)
            theirs = twin.to(dtype)(*(each.to(dtype) for each in inputs))
            ours = network.to(dtype)(*inputs)
        assert 0 < _rms(ours - exact) <= _rms(theirs.float() - exact), type(network).__name__


@pytest.mark.parametrize("seed", [0, 1])
def test_in_bfloat16_decoding_errs_no_more_than_diffusers(seed):
    network = tiny.stage_a(replace(tiny.STAGE_A, bottleneck_blocks=4), seed)
    latents = _random(2, 4, 24, 24)
    twin = tiny.diffusers_twin(network)
    with torch.inference_mode():
        exact = twin.decode(latents).sample
        theirs = twin.to(torch.bfloat16).decode(latents.bfloat16()).sample
        ours = network.to(torch.bfloat16).decode(latents.bfloat16())
    assert 0 < _rms(ours.float() - exact) <= _rms(theirs.float() - exact)


@torch.no_grad()
def test_under_autocast_nothing_is_folded_and_it_still_computes():
    stage_a, stage_b = tiny.stage_a(), tiny.stage_b()
    latents, t = torch.randn(1, 4, 32, 64), torch.full((1,), 0.3)
    embeddings = torch.randn(1, 16, 3, 6)
    exact = stage_b(latents, t, embeddings, None), stage_a.decode(latents)
    with torch.autocast("cpu", torch.bfloat16):
        rough = stage_b(latents, t, embeddings, None), stage_a.decode(latents)
    for one, other in zip(rough, exact, strict=True):
        assert tiny.relative_error(one.float(), other) < 0.1
    with torch.device("meta"):  # a device without autocast
        tiny.stage_b().condition(torch.empty(1, 16, 3, 6), None, (32, 64))
