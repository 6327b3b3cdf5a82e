"""Test previews of latents: the fitted map, the one without a fit, the previewer, and both in a checkpoint."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from support import tiny
from wuerstchen_core import CheckpointError, interpolate, load_stage_c, save_stage_c
from wuerstchen_core.checkpoints.components import STAGE_B, STAGE_C
from wuerstchen_core.checkpoints.layouts import PREVIEWER_FILES, find_stage
from wuerstchen_core.checkpoints.saving import save_stage_b
from wuerstchen_core.networks.previewer import Previewer
from wuerstchen_core.previews import fit_latent_rgb, latent_preview, preview
from wuerstchen_core.training.pictures import WorldPictures, draw_batch


def test_a_linear_relation_is_found():
    latents = torch.randn(4, 16, 6, 3, generator=torch.Generator().manual_seed(0))
    truth = torch.randn(17, 3, generator=torch.Generator().manual_seed(1)) * 0.05
    truth[-1] = 0.5
    images = (latents.movedim(1, -1) @ truth[:-1] + truth[-1]).movedim(-1, 1)
    found = fit_latent_rgb(latents, images.repeat_interleave(32, dim=2).repeat_interleave(32, dim=3))
    assert torch.allclose(found, truth, atol=1e-4)
    shown = latent_preview(latents, found)
    assert shown.shape == (4, 6, 3, 3)
    assert torch.allclose(shown, images.movedim(1, -1).clamp(0, 1), atol=1e-4)


def test_without_a_map_the_picture_still_shows_structure_and_holds_its_colours():
    latents = torch.zeros(1, 4, 8, 8)
    latents[:, :, :, 4:] = torch.tensor([1.0, -2.0, 0.5, 0.0])[:, None, None]
    latents += torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    shown = latent_preview(latents, None)
    assert shown.shape == (1, 8, 8, 3) and shown.min() >= 0 and shown.max() <= 1
    left, right = shown[0, :, :4].mean(dim=(0, 1)), shown[0, :, 4:].mean(dim=(0, 1))
    assert (left - right).abs().max() > 0.3
    again = latent_preview(latents * 0.9, None)
    assert torch.allclose(again, shown, atol=0.02)


def test_a_uniform_latent_is_gray():
    assert torch.allclose(latent_preview(torch.ones(1, 16, 3, 3), None), torch.tensor(0.5), atol=1e-3)


def test_the_map_is_saved_loaded_and_inherited(tmp_path):
    network = tiny.stage_c()
    save_stage_c(network, tmp_path / "without")
    assert load_stage_c(tmp_path / "without").latent_rgb is None
    network.latent_rgb = torch.rand(network.config.c_in + 1, 3)
    save_stage_c(network, tmp_path / "with")
    loaded = load_stage_c(tmp_path / "with")
    assert loaded.latent_rgb is not None and torch.allclose(loaded.latent_rgb, network.latent_rgb, atol=1e-5)
    assert interpolate(loaded, network, 0.5).latent_rgb is loaded.latent_rgb


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"latent_rgb": "red"}, "no table of numbers"),
        ({}, "no table of numbers"),
        ({"latent_rgb": [[1, 2], [3, 4]]}, "three columns"),
        ({"latent_rgb": [[1, 2, 3]] * 5}, "has 5 rows; expected 17"),
    ],
)
def test_a_damaged_map_is_named(tmp_path, content, message):
    save_stage_c(tiny.stage_c(), tmp_path / "c")
    (tmp_path / "c" / "preview.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_stage_c(tmp_path / "c")


def test_latents_that_overflowed_do_not_end_the_run():
    latents = torch.randn(1, 4, 6, 6)
    latents[0, 0, 0, 0], latents[0, 1, 0, 0] = torch.nan, torch.inf
    assert latent_preview(latents, None).isfinite().all()


def test_the_previewer_has_the_tensors_of_the_published_one():
    shapes = {key: list(tensor.shape) for key, tensor in Previewer().layers.state_dict(prefix="blocks.").items()}
    layers = {key: shape for key, shape in shapes.items() if len(shape) == 4}
    assert layers == {
        "blocks.0.weight": [512, 16, 1, 1],
        "blocks.3.weight": [512, 512, 3, 3],
        "blocks.6.weight": [512, 256, 2, 2],
        "blocks.9.weight": [256, 256, 3, 3],
        "blocks.12.weight": [256, 128, 2, 2],
        "blocks.15.weight": [128, 128, 3, 3],
        "blocks.18.weight": [3, 128, 1, 1],
    }
    assert sum(key.endswith("running_var") for key in shapes) == 6


def test_the_previewer_is_saved_loaded_and_inherited(tmp_path):
    network = tiny.stage_c()
    keys = network.state_dict().keys()
    network.previewer = Previewer(network.config.c_in, 8)
    assert network.state_dict().keys() == keys
    save_stage_c(network, tmp_path)
    loaded = load_stage_c(tmp_path)
    latents = torch.randn(2, network.config.c_in, 3, 6)
    shown = preview(loaded, latents)
    assert shown.shape == (2, 12, 24, 3)
    assert shown.min() >= 0 and shown.max() <= 1
    assert torch.equal(shown, preview(network, latents))
    assert interpolate(loaded, network, 0.5).previewer is loaded.previewer
    assert preview(loaded, latents * torch.nan).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.0.bias"), "Missing key.*0.bias"),
        (lambda state: state.pop("blocks.0.weight"), "Missing key.*0.weight"),
        (lambda state: state.update({"blocks.0.weight": torch.zeros(8, 4, 1, 1)}), "16 channels"),
        (lambda state: state.update({"blocks.0.weight": torch.zeros(())}), "16 channels"),
        (lambda state: state.update(other=torch.zeros(1)), "Unexpected key.*other"),
    ],
)
def test_a_file_that_is_no_previewer_is_named(tmp_path, change, message):
    network = tiny.stage_c()
    network.previewer = Previewer(network.config.c_in, 8)
    save_stage_c(network, tmp_path)
    file = tmp_path / "previewer.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file)
    with pytest.raises(CheckpointError, match=f"(?s)previewer.safetensors is not the previewer.*{message}.*delete"):
        load_stage_c(tmp_path)


PUBLISHED = "warp-ai/wuerstchen-prior-model-base"


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("place", [PUBLISHED, "dome272/wuerstchen", "."])
def test_the_authors_previewer_is_found(tmp_path, place, with_config):
    network, previewer = _published(tmp_path), Previewer(16, 8)
    _save_as_published(previewer, tmp_path / place)
    if not with_config:
        (tmp_path / PUBLISHED / "config.json").unlink()
    loaded = load_stage_c(tmp_path / PUBLISHED)
    latents = torch.randn(1, 16, 3, 3)
    assert torch.equal(preview(loaded, latents), previewer(latents))
    assert PREVIEWER_FILES[1] in {path.name for path in find_stage(tmp_path / PUBLISHED, STAGE_C).paths}
    assert loaded.state_dict().keys() == network.state_dict().keys()


def test_the_previewer_of_the_weights_comes_before_the_authors(tmp_path):
    network = _published(tmp_path)
    network.previewer = Previewer(16, 12)
    save_stage_c(network, tmp_path / PUBLISHED)
    _save_as_published(Previewer(16, 8), tmp_path / PUBLISHED)
    latents = torch.randn(1, 16, 3, 3)
    assert torch.equal(preview(load_stage_c(tmp_path / PUBLISHED), latents), network.previewer(latents))


def test_the_authors_previewer_is_for_the_published_stage_c_only(tmp_path):
    _save_as_published(Previewer(16, 8), tmp_path)
    save_stage_c(tiny.stage_c(), tmp_path / "own")
    save_file(tiny.stage_c().state_dict(), tmp_path / "own.safetensors")
    save_stage_b(tiny.stage_b(), tmp_path / "warp-ai" / "wuerstchen" / "decoder")
    assert load_stage_c(tmp_path / "own").previewer is None
    assert load_stage_c(tmp_path / "own.safetensors").previewer is None
    assert find_stage(tmp_path / "warp-ai" / "wuerstchen", STAGE_B).previewer is None


def _published(models):
    network = tiny.stage_c()
    save_stage_c(network, models / PUBLISHED)
    return network


def _save_as_published(previewer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]}
    state = previewer.layers.state_dict(prefix="blocks.")
    torch.save({"state_dict": state, "optimizer_state_dict": optimizer, "iter": 100_000}, folder / PREVIEWER_FILES[1])


def test_cocktails_previewer_shows_the_picture():
    batch = draw_batch(WorldPictures("flat"), np.random.default_rng(1), 16, 256, 256)
    assert batch.features is not None
    network = load_stage_c("cocktail")
    wanted = F.adaptive_avg_pool2d(batch.images, 24).movedim(1, -1)
    error = (preview(network, batch.features) - wanted).square().mean().sqrt()
    flat = wanted - wanted.mean(dim=(1, 2), keepdim=True)
    assert error < 0.5 * flat.square().mean().sqrt()
