"""Test that saved networks are read by this project and by diffusers, and are written whole or not at all."""

import json

import pytest
import safetensors
import torch
from safetensors.torch import load_file

from support import tiny
from wuerstchen_core import InputError, WuerstchenError, interpolate, load_stage_a, load_stage_b, load_stage_c
from wuerstchen_core.checkpoints import saving
from wuerstchen_core.checkpoints.saving import save_stage_a, save_stage_b, save_stage_c

STAGES = {
    "prior": (save_stage_c, tiny.stage_c, load_stage_c),
    "decoder": (save_stage_b, tiny.stage_b, load_stage_b),
    "vqgan": (save_stage_a, tiny.stage_a, load_stage_a),
}


def _same(ours, theirs) -> bool:
    left, right = ours.state_dict(), theirs.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("stage", STAGES)
def test_saved_network_is_read_back(stage, tmp_path):
    save, build, load = STAGES[stage]
    network = build()
    save(network, tmp_path / "deep" / stage)
    assert _same(load(tmp_path / "deep" / stage), network)
    assert load(tmp_path / "deep" / stage).config == network.config
    assert sorted(path.name for path in (tmp_path / "deep").rglob("*")) == sorted(
        [stage, "config.json", "diffusion_pytorch_model.safetensors"]
    )


@pytest.mark.parametrize("stage", STAGES)
def test_saved_network_is_read_by_diffusers(stage, tmp_path):
    save, build, _ = STAGES[stage]
    network = build()
    save(network, tmp_path / stage)
    config = json.loads((tmp_path / stage / "config.json").read_text())
    twin = tiny.diffusers_twin(network)
    assert config["_class_name"] == type(twin).__name__
    loaded, report = type(twin).from_pretrained(tmp_path / stage, output_loading_info=True)
    assert not any(report.values()), report
    with safetensors.safe_open(tmp_path / stage / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # older readers require it
    assert _same(network, loaded)


def test_dtype_of_the_file(tmp_path):
    network = tiny.stage_a()
    save_stage_a(network, tmp_path / "half", dtype=torch.float16)
    stored = load_file(tmp_path / "half" / "diffusion_pytorch_model.safetensors")
    assert stored["up_blocks.0.0.weight"].dtype == torch.float16
    assert stored["down_blocks.3.1.num_batches_tracked"].dtype == torch.int64
    assert _same(load_stage_a(tmp_path / "half"), network.half().float())


def test_an_interpolation_is_saved_and_read_back(tmp_path):
    mixed = interpolate(tiny.stage_c(seed=0), tiny.stage_c(seed=1), 0.5)
    save_stage_c(mixed, tmp_path / "mixed")
    assert _same(load_stage_c(tmp_path / "mixed"), mixed)


def test_saving_over_the_folder_it_was_loaded_from(tmp_path):
    save_stage_c(tiny.stage_c(seed=0), tmp_path / "prior")
    (tmp_path / "prior" / "notes.txt").write_text("mine")
    loaded = load_stage_c(tmp_path / "prior")  # its weights are memory-mapped from the file that is replaced
    save_stage_c(interpolate(loaded, tiny.stage_c(seed=1), 0.25), tmp_path / "prior")
    assert _same(load_stage_c(tmp_path / "prior"), interpolate(tiny.stage_c(seed=0), tiny.stage_c(seed=1), 0.25))
    assert _same(loaded, tiny.stage_c(seed=0)), "the loaded network is untouched"
    assert (tmp_path / "prior" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_where_the_disk_fills_up(tmp_path, monkeypatch, existing):
    if existing:
        save_stage_c(tiny.stage_c(seed=0), tmp_path / "prior")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def half_written(path, weights):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_tensors", half_written)
    with pytest.raises(WuerstchenError, match=r"Stage C cannot be saved to .*No space left on device"):
        save_stage_c(tiny.stage_c(seed=1), tmp_path / "prior")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert (tmp_path / "prior").exists() == existing


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WuerstchenError, match=r"cannot be saved to .*Choose a folder that can be written"):
        save_stage_c(tiny.stage_c(), tmp_path / "file" / "prior")


@pytest.mark.parametrize("name", ["existing", "new.safetensors"])
def test_path_of_a_file(tmp_path, name):
    (tmp_path / "existing").write_text("mine")
    with pytest.raises(InputError, match="names a file; expected the folder"):
        save_stage_c(tiny.stage_c(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]
