"""`wuerstchen generate`: its options, its defaults, and the names of what it saves."""

import inspect
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wuerstchen_core import generate
from wuerstchen_core.checkpoints.presets import family
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.cli.generate import numbered, settings_for
from wuerstchen_nodes.headless.cli.parser import build_parser
from wuerstchen_nodes.headless.run import prepare
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.headless.workflow.documents import load_workflow

QUICK = ["--steps=2", "--size=128x128", "--quiet"]


def inputs_of(path: str, node: str) -> dict:
    prompt = load_workflow(path).prompt
    assert prompt is not None
    return prompt[node]["inputs"]


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that pipes a text into the command."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_the_defaults_are_those_of_the_python_function():
    expected = {name: each.default for name, each in inspect.signature(generate).parameters.items()}
    options = build_parser().parse_args(["generate", "x"])
    assert (options.steps, options.cfg) == (expected["steps"], expected["guidance_scale"])
    assert (options.seed, options.count) == (str(expected["seed"]), expected["batch_size"])
    workflow = load_workflow(examples.locate(None))
    prompt = prepare(workflow, settings_for(workflow, options)).prompt
    assert {node["inputs"]["model"] for node in prompt.values() if "model" in node["inputs"]} == {expected["model"]}
    sampler, decoder, suits = prompt["8"]["inputs"], prompt["10"]["inputs"], family(expected["model"])
    assert (sampler["width"], sampler["height"]) == (suits.natural_size,) * 2
    assert sampler["cfg"] == suits.stage_c_guidance_scale
    assert (decoder["steps"], decoder["schedule"]) == (suits.stage_b_steps, suits.stage_b_schedule)
    assert decoder["cfg"] == suits.stage_b_guidance_scale
    assert prompt["5"]["inputs"]["text"] == expected["negative_prompt"]


def test_the_shell_and_python_draw_the_same_image(wuerstchen):
    outcome = wuerstchen("generate", "a red star on a white background", "--negative=blur", "--steps=2", "--out=s.png")
    assert outcome.code == 0, outcome.err
    (expected,) = generate("a red star on a white background", negative_prompt="blur", steps=2)
    with Image.open("s.png") as image:
        difference = np.asarray(image).astype(int) - np.asarray(expected)
    # Weights and tensors have other memory alignments there, so products round differently.
    assert np.abs(difference).max() <= 1


@pytest.mark.usefixtures("generate_tiny")
def test_a_piped_prompt_becomes_a_piped_png(monkeypatch, stdin):
    stdin("a red star\n")
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", stdout)
    assert cli.main(["generate", "--seed=3", *QUICK]) == 0
    assert isinstance(stdout.buffer, io.BytesIO)
    Path("piped.png").write_bytes(stdout.buffer.getvalue())
    assert inputs_of("piped.png", "2")["value"] == "a red star"
    assert not Path("output").exists()


@pytest.mark.usefixtures("generate_tiny")
def test_every_option_sets_an_input_of_the_example(wuerstchen):
    options = ["--negative=fog", "--size=256x128", "--seed=9", "--steps=3", "--cfg=2.5", "--out=g.png"]
    outcome = wuerstchen("generate", "a cyan cross", *options)
    assert (outcome.code, outcome.lines) == (0, ["g.png"])
    with Image.open("g.png") as image:
        assert image.size == (256, 128)
    assert inputs_of("g.png", "2")["value"] == "a cyan cross"
    assert inputs_of("g.png", "5")["text"] == "fog"
    sampler, decoder = inputs_of("g.png", "8"), inputs_of("g.png", "10")
    assert (sampler["steps"], sampler["cfg"], sampler["seed"]) == (3, 2.5, 9)
    assert decoder["seed"] == 9
    assert wuerstchen("generate", "again", *QUICK, "--out=g.png").lines == ["g_2.png"]


@pytest.mark.usefixtures("generate_tiny")
def test_several_images_have_seeds_in_a_row_and_numbered_names(wuerstchen):
    several = wuerstchen("generate", "a star", *QUICK, "-n3", "--seed=7", "--out=o/star.png")
    assert several.lines == ["o/star_1.png", "o/star_2.png", "o/star_3.png"]
    assert [inputs_of(path, "8")["seed"] for path in several.lines] == [7, 8, 9]
    assert len({Image.open(path).tobytes() for path in several.lines}) == 3
    alone = wuerstchen("generate", "a star", *QUICK, "--seed=8", "--out=alone.png")
    assert Image.open(alone.lines[0]).tobytes() == Image.open("o/star_2.png").tobytes()


@pytest.mark.usefixtures("generate_tiny")
def test_each_line_of_stdin_is_a_prompt(wuerstchen, stdin):
    stdin("a red star\n\n  a blue ring \n")
    outcome = wuerstchen("generate", *QUICK, "--count=2", "--json", "--out=o")
    saved = outcome.events("saved")
    assert [(each["prompt"], each["seed"], each["point"]) for each in saved] == [
        ("a red star", 0, 1),
        ("a red star", 1, 2),
        ("a blue ring", 0, 3),
        ("a blue ring", 1, 4),
    ]
    assert [each["path"] for each in saved] == [f"o/wuerstchen_0000{index}_.png" for index in (1, 2, 3, 4)]
    assert [inputs_of(each["path"], "2")["value"] for each in saved] == [each["prompt"] for each in saved]
    assert outcome.events("done")[0]["images"] == [each["path"] for each in saved]


def test_a_preset_is_set_for_every_stage_with_its_size(tiny):
    workflow = load_workflow(examples.locate(None))

    def settings(*options: str) -> dict:
        return settings_for(workflow, build_parser().parse_args(["generate", "x", *options]))

    always = {"Stage C Sampler.steps": 29}
    loaders = {f"{each}.model": "v2-base" for each in (1, 3, 7, 9, 11)}
    suited = {"Stage C Sampler.width": 1024, "Stage C Sampler.height": 512}
    suited |= {"Stage C Sampler.cfg": 4.0, "Stage C Sampler.context": 1.0, "Stage B Decode.cfg": 0.0}
    suited |= {"Stage B Decode.steps": 12, "Stage B Decode.schedule": "linear"}
    assert settings("--model=v2-base", "--height=512") == {**always, **loaders, **suited}
    assert settings("--model=v2-base", "--cfg=3")["Stage C Sampler.cfg"] == 3
    assert settings("--model=stage_c") == {**always, "7.model": "stage_c"}


@pytest.mark.parametrize(
    ("out", "count", "pattern"),
    [
        ("star.png", 1, "star.png"),
        ("star.png", 3, "star_{index:01}.png"),
        ("o/star.PNG", 12, "o/star_{index:02}.PNG"),
        ("{prefix}-{index:03}.png", 3, "{prefix}-{index:03}.png"),
        ("output", 3, "output"),
    ],
)
def test_names_of_several_images_are_numbered(out, count, pattern):
    assert numbered(out, count) == str(Path(pattern))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--size=256"], "argument --size: expected WIDTHxHEIGHT in pixels, such as 512x768, got 256."),
        (["--size=0x256"], "got 0x256."),
        (["--size=256x256", "--width=256"], "--size and --width or --height exclude each other"),
        (["--steps=0"], "argument --steps: expected a whole number of at least 1, got 0."),
        (["--width=wide"], "argument --width: expected a whole number of at least 1, got wide."),
        (["-n", "0"], "argument -n/--count: expected a whole number of at least 1, got 0."),
        (["--cfg=nan"], "argument --cfg: expected a number of at least 0, got nan."),
        (["--cfg=strong"], "argument --cfg: expected a number of at least 0, got strong."),
        (["--model=cocktial"], "Did you mean 'cocktail'"),
        (["-n2"], "2 images cannot go to a pipe; name a folder or a pattern with --out."),
        (["and", "more"], "unexpected and more; put quotes around a text with spaces."),
    ],
)
def test_bad_options_are_refused_in_one_line(wuerstchen, arguments, says):
    outcome = wuerstchen("generate", "x", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert "Traceback" not in json.dumps(outcome.err)
