"""Test merges: averages, added differences and block weights against plain arithmetic, and their memory."""

import subprocess
import sys

import pytest
import torch

from support import tiny
from wuerstchen_core import (
    BlockWeights,
    CheckpointError,
    InputError,
    Interpolation,
    Merge,
    interpolate,
    load_stage_c,
    merge,
    save_stage_c,
)
from wuerstchen_core.checkpoints import opening, reading
from wuerstchen_core.checkpoints.recipes import Stored

NETWORKS = [tiny.stage_c(seed=seed) for seed in range(4)]
STATES = [network.state_dict() for network in NETWORKS]


@pytest.fixture
def stored(tmp_path):
    for index, network in enumerate(NETWORKS):
        save_stage_c(network, tmp_path / str(index))
    return [tmp_path / str(index) for index in range(4)]


def test_average_of_several(stored):
    weights = (0.5, 0.25, 0.0, 0.375)
    merged = merge(Merge(stored, weights)).state_dict()
    for key, value in merged.items():
        total = torch.zeros_like(value)
        for state, weight in zip(STATES, weights, strict=True):
            total = total + weight * state[key]
        assert torch.equal(value, total / 1.125), key


def test_added_difference(stored):
    merged = merge(Merge(stored, (9, 0.75, 0.5, 9), mode="add difference")).state_dict()
    base, one, two, origin = STATES
    for key, value in merged.items():
        assert torch.equal(value, base[key] + 0.75 * (one[key] - origin[key]) + 0.5 * (two[key] - origin[key])), key


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("", (1, 1, 1, 1)),
        ("0.5", (0.5, 0.5, 0.5, 0.5)),
        ("1, 0", (1, 1, 0, 0)),
        ("0 1", (0, 0, 1, 1)),
        ("in=0.25", (0.25, 0.25, 1, 1)),
        ("mid=0, in=0.5, out=1", (0.5, 0.5, 0, 1)),
    ],
)
def test_block_weights_of_a_network_of_two_blocks(stored, text, shares):
    merged = merge(Merge(stored[:2], (0, 1), blocks=BlockWeights.parse(text))).state_dict()
    examples = ("projection.weight", "blocks.1.mapper.weight", "blocks.5.attention.to_q.weight", "out.1.bias")
    for key, share in zip(examples, shares, strict=True):
        first, second = STATES[0][key], STATES[1][key]
        expected = {0: first, 1: second}.get(share, torch.lerp(first, second, share))
        assert torch.equal(merged[key], expected), key


def test_a_curve_over_32_blocks():
    def of(weights, block, layer="attention.to_q.weight"):
        return weights.of(f"blocks.{3 * block + 2}.{layer}", 32)

    each = BlockWeights.parse(", ".join(str(block / 100) for block in range(32)))
    assert [of(each, block) for block in range(32)] == [block / 100 for block in range(32)]
    ramp = BlockWeights.parse("0, 1, 0")
    assert (of(ramp, 0), of(ramp, 31)) == (0, 0)
    assert of(ramp, 15) == pytest.approx(30 / 31) == of(ramp, 16)
    thirds = BlockWeights.parse("in=0.1, mid=0.2, out=0.3")
    assert [of(thirds, block) for block in (0, 10, 11, 21, 22, 31)] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert thirds.of("cond_mapper.0.weight", 32) == 0.1


@pytest.mark.parametrize("text", ["2", "a", "in=x", "in", "end=1", "1,,-1", "nan", "in=1 0.5"])
def test_block_weights_that_cannot_be_read(text):
    with pytest.raises(InputError, match=r"The shares of blocks are .* cannot be read; expected numbers from 0 to 1"):
        BlockWeights.parse(text)


def test_a_merge_of_a_merge_reads_as_one(stored):
    nested = Merge([Merge(stored[:2], (1, 1)), Interpolation(stored[2], stored[3], 0.25)], (0.5, 0.5))
    for key, value in merge(nested).state_dict().items():
        expected = (STATES[0][key] + STATES[1][key]) / 2 * 0.5 + torch.lerp(STATES[2][key], STATES[3][key], 0.25) * 0.5
        assert torch.allclose(value, expected, rtol=0, atol=1e-6), key


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_recipe_and_saved_file_are_the_same_network(stored, tmp_path, dtype):
    recipe = Merge(stored[:3], (0.2, 0.3, 0.5))
    save_stage_c(recipe, tmp_path / "merged", dtype=dtype)
    read, made = load_stage_c(tmp_path / "merged").state_dict(), merge(recipe, dtype=dtype).state_dict()
    assert all(torch.equal(read[key], value.float()) for key, value in made.items())


def test_recipe_in_eight_bits_is_saved_as_it_runs(stored, tmp_path):
    recipe, dtype = Merge(stored[:2], (0.5, 0.5)), torch.float8_e4m3fn
    save_stage_c(recipe, tmp_path / "merged", dtype=dtype)
    read, made = load_stage_c(tmp_path / "merged", dtype=dtype).state_dict(), merge(recipe, dtype=dtype).state_dict()
    # What is not in eight bits is saved in bfloat16; a processor without it runs in float32.
    assert all(torch.equal(read[key].bfloat16(), value.bfloat16()) for key, value in made.items())


def test_interpolation_as_a_recipe(stored):
    lazily = merge(Interpolation(stored[0], stored[1], 0.3)).state_dict()
    eagerly = interpolate(NETWORKS[0], NETWORKS[1], 0.3).state_dict()
    assert all(torch.equal(lazily[key], value) for key, value in eagerly.items())


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ((1,), {}, "1 networks are given; expected 2 or more"),
        ((1, 1), {"mode": "add difference"}, "2 networks are given; expected 3 or more"),
        ((1, -1), {}, "add up to 0"),
        ((1, 1), {"mode": "sum"}, "mode is 'sum'; expected one of average, add difference"),
        ((1, 1), {"blocks": BlockWeights((1.0,) * 3)}, "has 3 shares; expected at most 2"),
    ],
)
def test_merges_that_make_no_sense(weights, options, message):
    with pytest.raises(InputError, match=message):
        Merge(NETWORKS[: len(weights)], weights, **options)


def test_one_weight_for_each_network():
    with pytest.raises(InputError, match="3 weights are given for 2 networks"):
        Merge(NETWORKS[:2], (1, 1, 1))


def test_networks_of_another_shape_are_named():
    from dataclasses import replace

    wide = tiny.stage_c(replace(tiny.STAGE_C, c_cond=48))
    with pytest.raises(CheckpointError, match=r"differ at 'cond_mapper.0.weight': network 1 has .*, network 3 has"):
        Merge([*NETWORKS[:2], wide], (1, 1, 1))


def test_a_file_that_changes_under_a_recipe(stored):
    recipe = Stored(stored[0])
    recipe.release()
    save_stage_c(tiny.stage_c(seed=9), stored[0])
    with pytest.raises(CheckpointError, match="has changed since it was opened"):
        merge(recipe)


def test_a_file_that_goes_away_under_a_recipe(stored):
    recipe = Stored(stored[0])
    recipe.release()
    (stored[0] / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"was there when it was opened and is gone \(No such file"):
        merge(recipe)


def test_files_are_opened_anew_after_some_bytes(stored, monkeypatch):
    opened = []
    read = opening.read_checkpoint
    monkeypatch.setattr(opening, "read_checkpoint", lambda *given: opened.append(given) or read(*given))
    monkeypatch.setattr(reading, "READ_AT_ONCE", 100_000)
    merged = merge(Merge(stored[:2], (1, 1))).state_dict()
    assert len(opened) > 4
    assert torch.equal(merged["out.1.bias"], (STATES[0]["out.1.bias"] + STATES[1]["out.1.bias"]) / 2)


PEAK = """
import sys, torch
from wuerstchen_core import Merge, save_stage_c
from wuerstchen_core.checkpoints import reading
reading.READ_AT_ONCE = 2 ** 22
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
recipe = Merge(sys.argv[1:4], (1, 1, 1))
before = peak()
save_stage_c(recipe, sys.argv[4])
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
def test_saving_a_merge_takes_the_memory_of_a_few_weights(tmp_path):
    from wuerstchen_core import StageC, StageCConfig

    network = StageC(StageCConfig(c=512, c_cond=64, depth=16, nhead=8)).requires_grad_(False)
    size = sum(weight.nbytes for weight in network.parameters())
    assert size > 200 * 2**20
    sources = [str(tmp_path / name) for name in "abc"]
    for source in sources:
        save_stage_c(network, source)
    command = [sys.executable, "-c", PEAK, *sources, str(tmp_path / "merged")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < size / 2, "three networks were merged and saved without one of them in memory"
