"""Test tiled decoding: it equals decoding at once, without visible seams."""

import pytest
import torch

from support import tiny
from wuerstchen_core import InputError, decode_stage_a, stages
from wuerstchen_core.networks.tiling import MINIMUM_TILE, decode_in_tiles, fitting_tile


def _pointwise(latents: torch.Tensor) -> torch.Tensor:
    """Decode each position by itself, so that tiles cannot differ from the whole."""
    return latents[:, :3].repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)


@pytest.mark.parametrize("size", [(32, 32), (33, 32), (70, 100), (8, 90), (5, 7)])
@pytest.mark.parametrize("tile", [32, 48, 200])
def test_tiles_put_together_are_the_whole(size, tile):
    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(decode_in_tiles(_pointwise, latents, tile), _pointwise(latents), atol=1e-6)


def test_no_tile_is_larger_than_asked():
    seen = []

    def watch(latents: torch.Tensor) -> torch.Tensor:
        seen.append(latents.shape[-2:])
        return _pointwise(latents)

    decode_in_tiles(watch, torch.zeros(1, 4, 100, 64), 32)
    assert len(seen) > 6
    assert set(seen) == {(32, 32)}


def test_a_real_decoder_shows_no_seam():
    network = tiny.stage_a()
    latents = torch.randn(1, 4, 48, 72, generator=torch.Generator().manual_seed(1))
    whole, tiled = decode_stage_a(network, latents), decode_stage_a(network, latents, tile=32)
    assert whole.shape == tiled.shape == (1, 3, 192, 288)
    assert 0 < (whole - tiled).abs().max() < 0.02
    assert whole.std() > 0.05


@pytest.mark.parametrize("tile", [MINIMUM_TILE - 1, 0, -5])
def test_tile_too_small(tile):
    with pytest.raises(InputError, match=r"expected at least 32 latent positions"):
        decode_stage_a(tiny.stage_a(), torch.zeros(1, 4, 64, 64), tile=tile)


@pytest.mark.parametrize(
    ("free", "tile"), [(None, None), (640_000, None), (639_999, 64), (100_000, 32), (1, MINIMUM_TILE)]
)
def test_the_largest_tile_that_fits(free, tile):
    assert fitting_tile(80, 80, 100, free) == tile


def test_where_memory_is_short_tiles_are_chosen_by_themselves(monkeypatch):
    network = tiny.stage_a()
    latents = torch.randn(1, 4, 48, 72, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(stages, "free_memory", lambda device: 32 * 32 * network.decoding_values * 4)
    assert torch.equal(decode_stage_a(network, latents), decode_stage_a(network, latents, tile=32))
