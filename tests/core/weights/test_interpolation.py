"""Test interpolation: exact ends, mixing in float32, unchanged inputs, errors for other shapes."""

from dataclasses import replace

import pytest
import torch

from support import tiny
from wuerstchen_core import CheckpointError, InputError, interpolate


@pytest.mark.parametrize("weight, seed", [(0.0, 0), (1.0, 1), (0, 0), (1, 1)])
def test_ends_are_the_checkpoints_themselves(weight, seed):
    mixed = interpolate(tiny.stage_c(seed=0), tiny.stage_c(seed=1), weight).state_dict()
    expected = tiny.stage_c(seed=seed).state_dict()
    assert mixed.keys() == expected.keys()
    assert all(torch.equal(mixed[key], expected[key]) for key in expected)


def test_every_weight_is_mixed_linearly():
    base, finetuned = tiny.stage_c(seed=0), tiny.stage_c(seed=1)
    mixed = interpolate(base, finetuned, 0.3).state_dict()
    theirs = finetuned.state_dict()
    for key, value in base.state_dict().items():
        expected = 0.7 * value.double() + 0.3 * theirs[key].double()
        assert torch.allclose(mixed[key].double(), expected, rtol=0, atol=1e-6), key


def test_half_precision_is_mixed_in_float32_and_rounded_once():
    base, finetuned = (tiny.stage_c(seed=seed).to(torch.bfloat16) for seed in (0, 1))
    mixed = interpolate(base, finetuned, 0.5)
    key = "cond_mapper.0.weight"
    exact = (base.state_dict()[key].float() + finetuned.state_dict()[key].float()) / 2
    assert torch.equal(mixed.state_dict()[key], exact.to(torch.bfloat16))


def test_checkpoints_of_different_dtypes_mix_into_that_of_base():
    mixed = interpolate(tiny.stage_c(seed=0), tiny.stage_c(seed=1).half(), 0.5)
    assert {weight.dtype for weight in mixed.parameters()} == {torch.float32}
    exact = interpolate(tiny.stage_c(seed=0), tiny.stage_c(seed=1), 0.5)
    for ours, theirs in zip(mixed.parameters(), exact.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_result_is_a_network_of_its_own():
    base, finetuned = tiny.stage_c(seed=0), tiny.stage_c(seed=1)
    mixed = interpolate(base, finetuned, 0.5)
    assert mixed.config == base.config
    assert not mixed.training
    assert not any(weight.requires_grad for weight in mixed.parameters())
    for weight in mixed.parameters():
        weight.zero_()
    for network, seed in ((base, 0), (finetuned, 1)):
        untouched = tiny.stage_c(seed=seed).state_dict()
        assert all(torch.equal(value, untouched[key]) for key, value in network.state_dict().items())


def test_other_shape_names_the_first_key_that_differs():
    wide = tiny.stage_c(replace(tiny.STAGE_C, c_cond=48))
    with pytest.raises(CheckpointError) as caught:
        interpolate(tiny.stage_c(), wide, 0.5)
    assert "'cond_mapper.0.weight': base has [64, 32], finetuned has [64, 48]" in str(caught.value)


def test_other_depth_names_the_first_key_that_is_absent():
    deep = tiny.stage_c(replace(tiny.STAGE_C, depth=3))
    with pytest.raises(CheckpointError, match=r"'blocks.6.*': base has absent"):
        interpolate(tiny.stage_c(), deep, 0.5)


def test_other_heads_are_refused_though_the_shapes_agree():
    with pytest.raises(CheckpointError, match="base has 1 attention heads, finetuned has 4"):
        interpolate(tiny.stage_c(), tiny.stage_c(replace(tiny.STAGE_C, nhead=4)), 0.5)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weight_out_of_range(weight):
    with pytest.raises(InputError, match=r"expected a number from 0 \(base\) to 1 \(finetuned\)"):
        interpolate(tiny.stage_c(), tiny.stage_c(), weight)
