"""Mixing and saving Stage C through the node classes."""

from dataclasses import replace

import pytest
import torch

from support import tiny
from support.hosts import FakeHost, Kept
from wuerstchen_core import StageC, load_stage_c
from wuerstchen_core.errors import CheckpointError, InputError
from wuerstchen_nodes.checkpoints import CheckpointInterpolate, SaveStageC
from wuerstchen_nodes.lazy import kept_of


@pytest.mark.parametrize(
    ("weight", "known", "asked_for"),
    [
        (0.0, {}, ["base"]),
        (1.0, {}, ["finetuned"]),
        (0, {"base": "there"}, []),
        (1, {"finetuned": "there"}, []),
        (0.25, {}, ["base", "finetuned"]),
        (0.25, {"base": "there"}, ["finetuned"]),
        (0.25, {"base": "there", "finetuned": "there"}, []),
    ],
)
def test_only_what_is_needed_is_asked_for(weight, known, asked_for):
    assert CheckpointInterpolate().check_lazy_status(weight, **known) == asked_for


def test_the_ends_are_the_checkpoints_themselves(fake_host: FakeHost):
    base, finetuned = Kept(tiny.stage_c(seed=1)), Kept(tiny.stage_c(seed=2))
    node = CheckpointInterpolate()
    assert node.interpolate(0.0, base=base) == (base,)
    assert node.interpolate(1.0, finetuned=finetuned) == (finetuned,)


def test_a_mix(fake_host: FakeHost):
    base, finetuned = tiny.stage_c(seed=1), tiny.stage_c(seed=2)
    (mix,) = CheckpointInterpolate().interpolate(0.25, Kept(base), Kept(finetuned))
    kept = kept_of(mix)
    assert isinstance(kept, Kept) and isinstance(kept.network, StageC)
    expected = base.projection.weight * 0.75 + finetuned.projection.weight * 0.25
    torch.testing.assert_close(kept.network.projection.weight, expected)


def test_what_cannot_be_mixed(fake_host: FakeHost):
    node = CheckpointInterpolate()
    with pytest.raises(CheckpointError, match="differ at"):
        node.interpolate(0.5, Kept(tiny.stage_c()), Kept(tiny.stage_c(replace(tiny.STAGE_C, c=32))))
    with pytest.raises(InputError, match=r"weight is 1\.5"):
        node.interpolate(1.5, Kept(tiny.stage_c()), Kept(tiny.stage_c()))


def test_saved_folders_load_again_and_are_never_overwritten(fake_host: FakeHost):
    for seed in (1, 2):
        result = SaveStageC().save(Kept(tiny.stage_c(seed=seed)), "mixes/mine")
        path = fake_host.output_folder() / "mixes" / f"mine_0000{seed}_"
        assert result["ui"]["text"] == [str(path)]
        assert torch.equal(load_stage_c(path).projection.weight, tiny.stage_c(seed=seed).projection.weight)
    first = load_stage_c(fake_host.output_folder() / "mixes" / "mine_00001_")
    assert torch.equal(first.projection.weight, tiny.stage_c(seed=1).projection.weight)


def test_nothing_is_saved_outside_the_output_folder(fake_host: FakeHost):
    with pytest.raises(InputError, match=r"filename_prefix is '\.\./mine'"):
        SaveStageC().save(Kept(tiny.stage_c()), "../mine")
    assert not list(fake_host.folder.rglob("mine*"))
