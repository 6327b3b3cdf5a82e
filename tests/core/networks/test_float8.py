"""Weights in eight bits: computed as weights of another dtype that were rounded to them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from support import tiny
from wuerstchen_core import (
    StageC,
    generate,
    interpolate,
    load_stage_a,
    load_stage_b,
    load_stage_c,
    load_text_encoder,
    save_stage_c,
)
from wuerstchen_core.checkpoints.saving import save_stage_b
from wuerstchen_core.errors import InputError
from wuerstchen_core.networks.compiling import compiled
from wuerstchen_core.networks.float8 import FLOAT8, Float8Operations, eight_bit_keys
from wuerstchen_core.networks.operations import compute_dtype

Inputs = tuple[Tensor, ...]
Case = tuple[Callable[..., Any], Path, Inputs]


def rounded(network: nn.Module) -> nn.Module:
    """Round the weights of a network's layers to eight bits, in place, and keep their dtype."""
    for key in eight_bit_keys(network):
        weight = network.get_parameter(key)
        weight.data = weight.data.to(FLOAT8).to(weight.dtype)
    return network


def stage_c_case(folder: Path) -> Case:
    save_stage_c(tiny.stage_c(), folder)
    return load_stage_c, folder, (torch.randn(1, 16, 3, 3), torch.tensor([0.7]), torch.randn(1, 5, 32))


def stage_b_case(folder: Path) -> Case:
    save_stage_b(tiny.stage_b(), folder)
    inputs = (torch.randn(1, 4, 16, 16), torch.tensor([0.7]), torch.randn(1, 16, 2, 2), torch.randn(1, 5, 32))
    return load_stage_b, folder, inputs


@pytest.mark.parametrize("case", [stage_c_case, stage_b_case])
def test_a_network_in_eight_bits_is_the_one_of_rounded_weights(tmp_path, case):
    load, folder, inputs = case(tmp_path)
    small = load(folder, dtype=FLOAT8)
    computed = compute_dtype(torch.device("cpu"))
    keys = eight_bit_keys(small)
    assert len(keys) > 10
    for key, weight in small.named_parameters():
        assert weight.dtype == (FLOAT8 if key in keys else computed), key
    plain = load(folder, dtype=torch.float32)
    before = plain(*inputs)
    exact = rounded(plain)(*inputs)
    assert not torch.equal(exact, before)
    in_float32 = load(folder, operations=Float8Operations(torch.float32), dtype=FLOAT8)
    torch.testing.assert_close(in_float32(*inputs), exact, rtol=1e-5, atol=1e-6)
    # In bfloat16 it errs no more than a network whose rounded weights are kept in bfloat16.
    in_bfloat16 = load(folder, operations=Float8Operations(torch.bfloat16), dtype=FLOAT8)
    kept = rounded(load(folder, dtype=torch.bfloat16))
    errors = [(network(*inputs).float() - exact).square().mean() for network in (in_bfloat16, kept)]
    assert 0 < errors[0] <= errors[1]


def test_another_dtype_to_compute_in(tmp_path):
    load, folder, inputs = stage_c_case(tmp_path)
    small = load(folder, operations=Float8Operations(torch.bfloat16), dtype=FLOAT8)
    assert small.projection.weight.dtype == FLOAT8 and small.projection.bias.dtype == torch.bfloat16
    assert torch.isfinite(small(*inputs)).all()


def test_a_file_in_eight_bits_loads_by_itself_and_as_it_is(tmp_path):
    load, folder, inputs = stage_c_case(tmp_path / "plain")
    save_stage_c(load(folder, dtype=FLOAT8), tmp_path / "small")
    again = load(tmp_path / "small", dtype=FLOAT8)
    assert torch.equal(again(*inputs), load(folder, dtype=FLOAT8)(*inputs))
    plain = load(tmp_path / "small")
    assert plain.projection.weight.dtype == torch.float32
    torch.testing.assert_close(plain(*inputs), rounded(load(folder))(*inputs), rtol=1e-2, atol=1e-2)

    # Some programs keep every tensor in eight bits.
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({key: tensor.to(FLOAT8) for key, tensor in state.items()}, tmp_path / "all.safetensors")
    for dtype in (None, FLOAT8, torch.bfloat16):
        assert torch.isfinite(load(tmp_path / "all.safetensors", dtype=dtype)(*inputs)).all()


def test_a_mix_keeps_the_dtype_of_its_base(tmp_path):
    load, folder, inputs = stage_c_case(tmp_path)
    for computed in (torch.bfloat16, torch.float32):
        small = load(folder, dtype=FLOAT8, operations=Float8Operations(computed))
        mix = interpolate(small, tiny.stage_c(seed=1), 0.5)
        assert isinstance(mix, StageC) and mix.projection.weight.dtype == FLOAT8 and mix.compute_dtype == computed
        assert torch.isfinite(mix(*inputs)).all()


@pytest.mark.long
def test_it_compiles(tmp_path):
    load, folder, inputs = stage_c_case(tmp_path)
    small = load(folder, dtype=FLOAT8)
    expected = small(*inputs)
    with compiled(small):
        torch.testing.assert_close(small(*inputs), expected, rtol=0.02, atol=0.01)


def test_stage_a_and_text_encoders_are_not_kept_in_eight_bits():
    with pytest.raises(InputError, match="float8_e4m3fn; expected one of"):
        load_stage_a("cocktail", dtype=FLOAT8)
    with pytest.raises(InputError, match="float8_e4m3fn; expected one of"):
        load_text_encoder("cocktail", dtype=FLOAT8)
    (image,) = generate("a red heart on a white background", dtype=FLOAT8, steps=2, stage_b_steps=1)
    assert image.size == (256, 256)
