"""Test that the judge reads images that the world drew, and rejects wrong ones."""

import dataclasses

import numpy as np
import pytest

from support.judge import judge, read
from wuerstchen_core.training.world import Scene, draw, random_scene, triples


@pytest.mark.parametrize("style", ["flat", "aesthetic"])
@pytest.mark.parametrize("size", [(256, 256), (384, 256), (256, 384)])
def test_judge_reads_what_the_world_draws(style, size):
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, triples(held_out=True)) for _ in range(60)]
    verdicts = [judge(draw(scene, size[0], size[1], rng, style), scene) for scene in scenes]
    for part in ("colour", "background", "shape", "position"):
        values = [v for v in (getattr(verdict, part) for verdict in verdicts) if v is not None]
        assert np.mean(values) >= 0.99, part


def test_judge_tells_a_wrong_picture():
    rng = np.random.default_rng(1)
    scene = Scene("red", "star", "white", "small", "left")
    other = Scene("blue", "heart", "black", "small", "right")
    verdict = judge(draw(other, 256, 256, rng), scene)
    assert dataclasses.astuple(verdict) == (False, False, False, False)


def test_a_figure_in_the_middle_is_at_no_side():
    rng = np.random.default_rng(2)
    for size in (None, "small", "large"):
        picture = draw(Scene("red", "circle", "white", size), 256, 256, rng)
        verdicts = [
            judge(picture, Scene("red", "circle", "white", size, side)).position
            for side in ("left", "right", "top", "bottom")
        ]
        assert sum(map(bool, verdicts)) <= 1


def test_an_empty_picture_has_no_reading():
    assert read(np.full((256, 256, 3), 0.5)) is None


def test_the_split_is_a_tenth_and_fixed():
    held_out, trained = triples(held_out=True), triples(held_out=False)
    assert 0.08 < len(held_out) / (len(held_out) + len(trained)) < 0.12
    assert Scene("red", "heart", "white") in trained + held_out
    assert not set(held_out) & set(trained)
