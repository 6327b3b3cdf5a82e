"""Test that the judge reads images that the world drew, and rejects wrong ones."""

import dataclasses

import numpy as np
import pytest

from support.judge import judge, read
from wuerstchen_core.training.world import POSITIONS, Scene, Style, draw, random_layout, random_scene, triples


def picture(scene, rng, size: tuple[int, int] = (256, 256), style: Style = "flat"):
    width, height = size
    return draw(scene, random_layout(scene, width, height, rng), style)


@pytest.mark.parametrize("style", ["flat", "aesthetic"])
@pytest.mark.parametrize("size", [(256, 256), (384, 256), (256, 384)])
def test_judge_reads_what_the_world_draws(style, size):
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, triples(held_out=True)) for _ in range(60)]
    verdicts = [judge(picture(scene, rng, size, style), scene) for scene in scenes]
    for part in ("colour", "background", "shape", "outline", "position"):
        values = [v for v in (getattr(verdict, part) for verdict in verdicts) if v is not None]
        assert np.mean(values) >= 0.99, part


def test_judge_tells_a_wrong_picture():
    rng = np.random.default_rng(1)
    scene = Scene("red", "star", "white", "small", "left")
    other = Scene("blue", "heart", "black", "small", "right")
    verdict = judge(picture(other, rng), scene)
    assert dataclasses.astuple(verdict) == (False, False, False, False, False)


def test_a_figure_in_the_middle_is_at_no_side():
    rng = np.random.default_rng(2)
    for size in (None, "small", "large"):
        drawn = picture(Scene("red", "circle", "white", size), rng)
        verdicts = [judge(drawn, Scene("red", "circle", "white", size, side)).position for side in POSITIONS]
        assert sum(map(bool, verdicts)) <= 1


def test_a_figure_in_a_corner_is_not_in_another_one():
    rng = np.random.default_rng(3)
    drawn = picture(Scene("red", "circle", "white", "small", "top left"), rng)
    inside = [side for side in POSITIONS if judge(drawn, Scene("red", "circle", "white", "small", side)).position]
    assert inside == ["left", "top", "top left"]


def test_a_dented_figure_keeps_its_shape_but_not_its_outline():
    rng = np.random.default_rng(4)
    scene = Scene("red", "square", "white", "large")
    drawn = picture(scene, rng)
    rows, columns = np.nonzero(drawn[:, :, 1] < 0.5)
    middle = (rows.min() + rows.max()) // 2
    drawn[middle - 30 : middle + 30, columns.min() : columns.min() + 60] = 1
    verdict = judge(drawn, scene)
    assert (verdict.shape, verdict.outline) == (True, False)


def test_an_empty_picture_has_no_reading():
    assert read(np.full((256, 256, 3), 0.5)) is None


def test_the_split_is_a_tenth_and_fixed():
    held_out, trained = triples(held_out=True), triples(held_out=False)
    assert 0.08 < len(held_out) / (len(held_out) + len(trained)) < 0.12
    assert Scene("red", "heart", "white") in trained + held_out
    assert not set(held_out) & set(trained)
