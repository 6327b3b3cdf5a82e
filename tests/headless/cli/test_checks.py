"""Words before a run: weights that are missing, weights that are loaded, and sizes that do not suit the model."""

import json
import re
from pathlib import Path

import pytest

from support.workflows import node
from wuerstchen_nodes.headless.cli import checks
from wuerstchen_nodes.headless.report import size_text


def warnings_in(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("warning: ")]


def test_validate_names_the_missing_weights_and_the_command_and_the_folder(wuerstchen, tmp_path):
    outcome = wuerstchen("validate", "wuerstchen_v2")
    assert outcome.code == 0
    valid, missing = outcome.lines
    assert "is valid, but weights are missing" in valid
    for part in ("Stage C", "Stage B", "Stage A", "text encoder of Stage C", "text encoder of Stage B"):
        assert part in missing
    assert "`wuerstchen download v2-interpolated`" in missing
    assert str(tmp_path / "models" / "warp-ai" / "wuerstchen-prior-model-interpolated") in missing
    (event,) = wuerstchen("validate", "wuerstchen_v2", "--json").events("missing_weights")
    assert (event["model"], event["nodes"]) == ("v2-interpolated", ["1", "3", "7", "9", "11"])
    assert "weights missing" not in wuerstchen("validate", "text_to_image").out


def test_a_dry_run_names_only_what_is_missing(wuerstchen):
    outcome = wuerstchen("run", "--dry-run", "--set=7.model=v2-base", "--set=8.width=1024", "--set=8.height=1024")
    assert outcome.code == 0
    (missing,) = [line for line in outcome.lines if "missing" in line]
    assert missing.startswith("weights missing: v2-base (Stage C). Run `wuerstchen download v2-base`")
    assert "warp-ai/wuerstchen-prior-model-base" in missing and "warp-ai/wuerstchen," not in missing


def test_a_run_says_from_the_first_moment_how_much_it_loads(tiny, models, wuerstchen):
    err = wuerstchen("run", *tiny).err.splitlines()
    assert re.fullmatch(r"Running .*text_to_image.json: 13 nodes, [\d.]+ [kM]B of weights", err[0])
    loads = [line.partition(", ")[0] for line in err if line.startswith("Loading ")]
    assert loads == [
        "Loading text encoder of Stage C",
        "Loading Stage C",
        "Loading text encoder of Stage B",
        "Loading Stage B",
        "Loading Stage A",
    ]
    size = sum(path.stat().st_size for path in (models[0] / "stage_a").iterdir())
    assert f"Loading Stage A, {size_text(size)}" in err
    (loaded,) = [index for index, line in enumerate(err) if line.startswith("Loading Stage C")]
    assert loaded < err.index("Stage C: step 2 of 2")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], []),
        (["--set=8.width=512", "--set=8.height=384"], []),
        (["--set=8.width=640"], ["cocktail was trained on sides of 256 to 512 pixels; an image of 640x256"]),
        (["--set=8.width=300"], ["An image of 300x256 is drawn as 384x256 and cropped"]),
        (["--set=8.width=700"], ["an image of 768x256", "An image of 700x256 is drawn as 768x256"]),
        (["--sweep=8.width=640,640,640"], ["an image of 640x256"]),
    ],
)
def test_run_warns_once_of_sizes_that_do_not_suit(wuerstchen, options, says):
    found = warnings_in(wuerstchen("run", "--dry-run", *options).err)
    assert len(found) == len(says)
    for line, expected in zip(found, says, strict=True):
        assert expected in line


def test_interpolated_checkpoints_of_one_family_are_warned_of_once(wuerstchen):
    slots = [json.loads(line) for line in wuerstchen("slots", "interpolation", "--json").lines]
    widths = [f"--set={each['node']}.width=1024" for each in slots if each["input"] == "width"]
    assert len(widths) == 3
    (line,) = warnings_in(wuerstchen("validate", "interpolation", *widths).err)
    assert line.startswith("warning: cocktail was trained on sides of 256 to 512 pixels; an image of 1024x256")


@pytest.mark.usefixtures("generate_tiny")
def test_generate_warns_of_a_crop_also_if_quiet(wuerstchen):
    outcome = wuerstchen("generate", "x", "--size=200x128", "--steps=2", "-n2", "--quiet", "--out=o")
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        "warning: An image of 200x128 is drawn as 256x128 and cropped at the right and the bottom, so figures may be "
        "cut; multiples of 128 are not cropped."
    ]


def test_a_linked_size_and_a_model_of_one_s_own_are_left_alone():
    prompt = {
        "1": node("WuerstchenLoadStageC", model="mine.safetensors", dtype="default"),
        "2": node("PrimitiveInt", value=7),
        "3": node("WuerstchenStageCSampler", stage_c=["1", 0], width=4096, height=128),
        "4": node("WuerstchenStageCSampler", stage_c=["1", 0], width=["2", 0], height=100),
    }
    assert checks.warnings_of(prompt) == []
    prompt["1"]["inputs"]["model"] = "v2-base"
    assert len(checks.warnings_of(prompt)) == 1


def test_quiet_says_in_one_line_what_failed(wuerstchen):
    prompt = {str(index): node("SaveImage", filename_prefix="x") for index in range(3)}
    Path("w.json").write_text(json.dumps(prompt))
    assert len(wuerstchen("validate", "w.json").err.splitlines()) == 3
    (line,) = wuerstchen("validate", "w.json", "--quiet").err.splitlines()
    assert line.startswith("wuerstchen: error: Node 0") and line.endswith("(and 2 more)")
