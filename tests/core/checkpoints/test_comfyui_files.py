"""Files that ComfyUI's own saving nodes write, with a prefix before every key and other models beside a stage."""

import pytest
import torch
from safetensors.torch import save_file

from wuerstchen_core import load_stage_a, load_stage_b, load_stage_c
from wuerstchen_core.checkpoints.keys import COMFYUI_PREFIXES

LOADERS = {"C": load_stage_c, "B": load_stage_b, "A": load_stage_a}


@pytest.mark.parametrize("part", LOADERS)
def test_a_stage_is_found_under_its_prefix_beside_other_models(part, tmp_path):
    plain = LOADERS[part]("cocktail").state_dict()
    kept = {COMFYUI_PREFIXES[part] + key: tensor.clone() for key, tensor in plain.items()}
    others = {"cond_stage_model.logit_scale": torch.ones(1), "v_pred": torch.zeros(0)}
    save_file(kept | others, tmp_path / "kept.safetensors")
    loaded = LOADERS[part](tmp_path / "kept.safetensors").state_dict()
    assert loaded.keys() == plain.keys()
    assert all(torch.equal(loaded[key], plain[key]) for key in plain)
