"""Test previews of latents: the fitted map, the one without a fit, and the map in a checkpoint."""

import json

import pytest
import torch

from support import tiny
from wuerstchen_core import CheckpointError, interpolate, load_stage_c, save_stage_c
from wuerstchen_core.previews import fit_latent_rgb, latent_preview


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
