"""`wuerstchen generate --image` and `wuerstchen vary`: their options, their defaults, and what they save."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wuerstchen_core import image_to_image, inpaint, vary
from wuerstchen_core.checkpoints.presets import COCKTAIL, V2
from wuerstchen_nodes.headless.cli.generate import example_for, settings_for, variation_settings
from wuerstchen_nodes.headless.cli.parser import build_parser
from wuerstchen_nodes.headless.run import prepare
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.headless.workflow.documents import load_workflow

FEW = ["--steps=2", "--quiet", "--no-cache"]
PROMPT = "a blue circle at the right on a yellow background"


@pytest.fixture(autouse=True)
def pictures(tmp_path, monkeypatch) -> None:
    """Put a picture and its mask into the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, short in (("square", "in"), ("mask", "mask")):
        Image.open(examples.folder() / f"wuerstchen_{name}.png").save(f"{short}.png")


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(list(arguments))


def difference(path: str, expected: Image.Image) -> int:
    return int(np.abs(np.asarray(Image.open(path), int) - np.asarray(expected, int)).max())


def test_image_to_image_is_that_of_python(wuerstchen):
    outcome = wuerstchen("generate", PROMPT, "--image=in.png", "--strength=0.5", "--seed=4", "--out=out.png", *FEW)
    assert outcome.code == 0, outcome.err
    [expected] = image_to_image("in.png", PROMPT, strength=0.5, seed=4, steps=2)
    assert difference("out.png", expected) <= 1


def test_inpainting_is_that_of_python_and_keeps_the_rest(wuerstchen):
    outcome = wuerstchen("generate", PROMPT, "--image=in.png", "--mask=mask.png", "--out=out.png", *FEW)
    assert outcome.code == 0, outcome.err
    [expected] = inpaint("in.png", "mask.png", PROMPT, steps=2)
    assert difference("out.png", expected) <= 1
    before, after = (np.asarray(Image.open(name)) for name in ("in.png", "out.png"))
    assert np.array_equal(before[:, :192], after[:, :192]) and not np.array_equal(before, after)


def test_variations_are_those_of_python_and_numbered(wuerstchen):
    outcome = wuerstchen("vary", "in.png", "-n", "3", "--seed=2", "--out=v.png", *FEW)
    assert outcome.code == 0, outcome.err
    assert outcome.lines == ["v_1.png", "v_2.png", "v_3.png"]
    for path, expected in zip(outcome.lines, vary("in.png", seed=2, batch_size=3, steps=2), strict=True):
        assert difference(path, expected) <= 1


def test_several_prompts_and_seeds_redraw_one_picture(wuerstchen):
    outcome = wuerstchen("generate", PROMPT, "--image=in.png", "-n", "2", "--out=out.png", *FEW)
    assert outcome.lines == ["out_1.png", "out_2.png"]
    assert Path("out_1.png").read_bytes() != Path("out_2.png").read_bytes()


def test_the_defaults_suit_the_model():
    def strength(*options: str) -> float:
        read = parsed("generate", "x", "--image=in.png", *options)
        return settings_for(load_workflow(examples.locate(example_for(read))), read)["Stage C Sampler.denoise"]

    assert strength() == COCKTAIL.image_strength and strength("--model=v2-base") == V2.image_strength
    assert strength("--mask=mask.png") == 1.0 and strength("--mask=mask.png", "--strength=0.5") == 0.5
    workflow = load_workflow(examples.locate("variations"))
    for options, expected in (([], COCKTAIL.vary_strength), (["--model=v2-base"], V2.vary_strength)):
        settings = variation_settings(workflow, parsed("vary", "in.png", *options))
        assert settings["Variations.strength"] == expected and settings["Variations.count"] == 4
    painted = parsed("generate", "x", "--image=in.png", "--mask=mask.png", "--model=v2-base")
    settings = settings_for(load_workflow(examples.locate(example_for(painted))), painted)
    assert settings["Stage C Sampler.context"] == 1.0
    assert {value for name, value in settings.items() if name.endswith(".model")} == {"v2-base"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x", "--strength=0.5"], "--strength changes a picture; give one with --image."),
        (["generate", "x", "--mask=mask.png"], "--mask changes a picture; give one with --image."),
        (["generate", "x", "--image=none.png"], "--image is 'none.png', and there is no such file"),
        (["generate", "x", "--image=in.png", "--mask=none.png"], "--mask is 'none.png', and there is no such file"),
        (["generate", "x", "--image=in.png", "--size=256x256"], "--image decides the size"),
        (["generate", "x", "--image=in.png", "--strength=2"], "expected a number above 0 and at most 1, got 2"),
        (["vary", "none.png"], "IMAGE is 'none.png', and there is no such file"),
        (["vary", "in.png", "--strength=nan"], "expected a number above 0 and at most 1, got nan"),
        (["vary"], "IMAGE"),
    ],
)
def test_bad_usage_is_one_line_with_the_exit_code_2(wuerstchen, arguments, message):
    outcome = wuerstchen(*arguments, "--out=o.png")
    assert outcome.code == 2 and message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_file_that_is_no_picture_is_one_line(wuerstchen):
    Path("text.png").write_text("text")
    outcome = wuerstchen("generate", PROMPT, "--image=text.png", "--out=o.png", "--quiet")
    assert outcome.code == 1 and "text.png cannot be read as an image" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_mask_of_another_size_and_transparency_are_told(wuerstchen, caplog):
    Image.open("mask.png").resize((96, 64)).save("small.png")
    outcome = wuerstchen("generate", PROMPT, "--image=in.png", "--mask=small.png", "--out=o.png", *FEW)
    assert outcome.code == 0, outcome.err
    assert "The mask is 96x64, the picture 384x256; it is stretched to fit." in outcome.err + caplog.text
    Image.open(examples.folder() / "wuerstchen_square_masked.png").save("clear.png")
    for arguments in (["generate", PROMPT, "--image=clear.png"], ["vary", "clear.png", "-n", "1"]):
        outcome = wuerstchen(*arguments, "--out=o.png", *FEW)
        assert outcome.code == 0, outcome.err
        assert "clear.png is transparent in places; the colours that are stored there are used." in outcome.err


def test_the_size_of_a_picture_is_not_that_of_the_fields_which_are_not_read(wuerstchen, monkeypatch):
    from wuerstchen_nodes.headless.cli.checks import warnings_of

    workflow = load_workflow(examples.locate("image_to_image"))
    prompt = prepare(workflow, {"Load Stage C.model": "cocktail", "Stage C Sampler.width": 4096}).prompt
    assert warnings_of(prompt) == []
