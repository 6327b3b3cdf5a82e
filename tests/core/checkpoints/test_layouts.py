"""Test that a network gives the same output from every layout, and that configs are inferred from shapes."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from support import tiny
from wuerstchen_core import StageB, StageC, load_stage_a, load_stage_b, load_stage_c
from wuerstchen_core.checkpoints import components
from wuerstchen_core.checkpoints.architectures import STAGE_A, STAGE_B, STAGE_C
from wuerstchen_core.checkpoints.layouts import find_stage
from wuerstchen_core.checkpoints.reading import read_checkpoint

NETWORKS = {
    "prior": (tiny.stage_c, load_stage_c, "ema_state_dict"),
    "decoder": (tiny.stage_b, load_stage_b, "state_dict"),
    "vqgan": (tiny.stage_a, load_stage_a, "state_dict"),
}


def _output(network: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    t = torch.tensor([0.4, 0.9])
    text = torch.randn(2, 7, 32, generator=generator)
    if isinstance(network, StageC):
        return network(torch.randn(2, 16, 3, 3, generator=generator), t, text)
    if isinstance(network, StageB):
        latents = torch.randn(2, 4, 32, 32, generator=generator)
        return network(latents, t, torch.randn(2, 16, 3, 3, generator=generator), text)
    images = torch.rand(2, 3, 16, 16, generator=generator)
    return torch.cat([network.encode(images).flatten(), network.decode(torch.ones(1, 4, 4, 4)).flatten()])


def _save_folder(network: Any, component: str, folder: Path) -> Path:
    tiny.diffusers_twin(network).save_pretrained(folder)
    return folder


def _pipeline_folder(network: Any, component: str, folder: Path) -> Path:
    (folder / "model_index.json").write_text("{}")
    _save_folder(network, component, folder / component)
    return folder


def _bin_folder(network: Any, component: str, folder: Path) -> Path:
    tiny.diffusers_twin(network).save_pretrained(folder, safe_serialization=False)
    assert list(folder.glob("*.bin"))
    return folder


def _sharded(network: Any, component: str, folder: Path) -> Path:
    tiny.diffusers_twin(network).save_pretrained(folder, max_shard_size="20KB")
    assert list(folder.glob("*.index.json"))
    return folder


def _fp16_variant_name(network: Any, component: str, folder: Path) -> Path:
    tiny.diffusers_twin(network).save_pretrained(folder, variant="fp16")
    assert list(folder.glob("*.fp16.safetensors"))
    return folder


def _variant_of_any_name(network: Any, component: str, folder: Path) -> Path:
    tiny.diffusers_twin(network).save_pretrained(folder, variant="mine")
    return folder


def _shards_of_a_variant_of_any_name(network: Any, component: str, folder: Path) -> Path:
    tiny.diffusers_twin(network).save_pretrained(folder, variant="mine", max_shard_size="20KB")
    assert list(folder.glob("*mine-*-of-*"))
    return folder


def _authors_pt(network: Any, component: str, folder: Path) -> Path:
    wrapper = NETWORKS[component][2]
    stale = {key: value * 0 for key, value in tiny.in_authors_keys(network.state_dict()).items()}
    content = {
        "state_dict": stale,
        "effnet_state_dict": {"mapper.0.weight": torch.ones(2)},
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
        "iter": 7,
        "metrics": {"ema_loss": 0.5},
        wrapper: tiny.in_authors_keys(network.state_dict()),
    }
    torch.save(content, folder / "model.pt")
    return folder / "model.pt"


def _authors_pt_before_zip(network: Any, component: str, folder: Path) -> Path:
    content = {"state_dict": tiny.in_authors_keys(network.state_dict())}
    torch.save(content, folder / "old.pt", _use_new_zipfile_serialization=False)
    return folder / "old.pt"


def _bare_pt_from_many_gpus(network: Any, component: str, folder: Path) -> Path:
    state = tiny.in_authors_keys(network.state_dict())
    torch.save({f"module.{key}": value for key, value in state.items()}, folder / "ddp.pt")
    return folder / "ddp.pt"


def _one_safetensors(network: Any, component: str, folder: Path) -> Path:
    save_file(network.state_dict(), folder / "shared.safetensors")
    return folder / "shared.safetensors"


def _one_safetensors_in_authors_keys(network: Any, component: str, folder: Path) -> Path:
    save_file(tiny.in_authors_keys(network.state_dict()), folder / "shared.safetensors")
    return folder / "shared.safetensors"


def _without_batch_counter(network: Any, component: str, folder: Path) -> Path:
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    save_file(state, folder / "shared.safetensors")
    return folder / "shared.safetensors"


LAYOUTS: list[Callable[[Any, str, Path], Path]] = [
    _save_folder,
    _pipeline_folder,
    _bin_folder,
    _sharded,
    _fp16_variant_name,
    _variant_of_any_name,
    _shards_of_a_variant_of_any_name,
    _authors_pt,
    _authors_pt_before_zip,
    _bare_pt_from_many_gpus,
    _one_safetensors,
    _one_safetensors_in_authors_keys,
    _without_batch_counter,
]


@pytest.mark.parametrize("save", LAYOUTS, ids=lambda save: save.__name__.strip("_"))
@pytest.mark.parametrize("component", NETWORKS)
def test_every_layout_gives_the_same_output(component, save, tmp_path):
    build, load, _ = NETWORKS[component]
    network = build()
    loaded = load(save(network, component, tmp_path))
    assert torch.equal(_output(loaded), _output(network))
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_the_files_of_a_stage_are_those_that_loading_reads(tmp_path):
    _sharded(tiny.stage_c(), "prior", tmp_path / "prior")
    (tmp_path / "prior" / "preview.json").write_text("{}")
    (tmp_path / "prior" / "README.md").write_text("not read")
    files = find_stage(tmp_path, components.STAGE_C)
    names = [path.name for path in files.paths]
    assert names[:3] == ["config.json", "preview.json", "diffusion_pytorch_model.safetensors.index.json"]
    assert len(names) > 4 and all("-of-" in name for name in names[3:])
    assert files.tensors == files.shards == files.paths[3:]
    alone = find_stage(files.shards[0], components.STAGE_C)
    assert alone.paths == alone.tensors == files.shards[:1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("in_authors_keys", [False, True])
@pytest.mark.parametrize("component", NETWORKS)
def test_half_precision_files_load_in_float32_on_the_cpu(component, in_authors_keys, dtype, tmp_path):
    build, load, _ = NETWORKS[component]
    rounded = build().to(dtype).float()
    state = rounded.state_dict()
    stored = {
        key: value.to(dtype) for key, value in (tiny.in_authors_keys(state) if in_authors_keys else state).items()
    }
    save_file(stored, tmp_path / "half.safetensors")
    loaded = load(tmp_path / "half.safetensors")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert torch.equal(_output(loaded), _output(rounded))
    asked = load(tmp_path / "half.safetensors", dtype=dtype)
    assert {weight.dtype for weight in asked.parameters()} == {dtype}


@pytest.mark.parametrize(
    "architecture, build, config",
    [
        (STAGE_C, tiny.stage_c, replace(tiny.STAGE_C, c=192, nhead=3, c_r=17, depth=3, c_in=4)),
        (STAGE_B, tiny.stage_b, tiny.STAGE_B),
        (
            STAGE_B,
            tiny.stage_b,
            replace(
                tiny.STAGE_B,
                c_hidden=(64, 32),
                nhead=(1, -1),
                blocks=(2, 3),
                level_config=("CTA", "C"),
                inject_effnet=(True, False),
                patch_size=4,
                kernel_size=5,
                effnet_embd=8,
            ),
        ),
        (STAGE_A, tiny.stage_a, replace(tiny.STAGE_A, levels=3, bottleneck_blocks=1, embed_dim=24)),
        (STAGE_A, tiny.stage_a, replace(tiny.STAGE_A, levels=1, up_down_scale_factor=4, latent_channels=6)),
    ],
)
def test_config_is_inferred_from_shapes(architecture, build, config):
    assert architecture.infer(build(config).state_dict()) == config


@pytest.mark.parametrize("architecture", [STAGE_A, STAGE_B, STAGE_C], ids=lambda each: each.component.folder)
def test_config_of_the_published_networks_is_inferred_from_shapes(architecture):
    with torch.device("meta"):
        network = architecture.network(architecture.config.v2())
    assert architecture.infer(network.state_dict()) == architecture.config.v2()


def test_config_as_the_hub_has_it_loads(tmp_path):
    network = tiny.stage_b()
    raw = {
        "_class_name": "WuerstchenDiffNeXt",
        "_diffusers_version": "0.21.0.dev0",
        **asdict(network.config),
        "level_config": [["C", "T"], ["C", "T", "A"], ["C", "T", "A"]],
        "dropout": [0.0, 0.1, 0.1],
    }
    del raw["kernel_size"]  # an absent field has its default
    (tmp_path / "config.json").write_text(json.dumps(raw))
    save_file(network.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    loaded = load_stage_b(tmp_path)
    assert loaded.config == network.config
    assert torch.equal(_output(loaded), _output(network))


def test_heads_come_from_the_config_where_there_is_one(tmp_path):
    network = tiny.stage_c(replace(tiny.STAGE_C, nhead=4))
    assert load_stage_c(_save_folder(network, "prior", tmp_path)).config.nhead == 4


def test_weights_stay_on_disk_until_they_are_needed(tmp_path):
    network = tiny.stage_c()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    for name in ("model.safetensors", "model.pt"):
        state = read_checkpoint(find_stage(tmp_path / name, components.STAGE_C), "C").state
        storages = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        mapped = Path("/proc/self/maps")
        if mapped.exists():  # on Linux
            assert str(tmp_path / name) in mapped.read_text()
        assert storages
