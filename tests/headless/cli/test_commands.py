"""The command, from what is typed to what is printed, with tiny random checkpoints."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.workflows import editor, editor_node, node, socket
from wuerstchen_nodes.headless.workflow.documents import load_workflow


def carried(path: str) -> dict[str, Any]:
    """The workflow in a picture, in the API format."""
    prompt = load_workflow(path).prompt
    assert prompt is not None
    return prompt


def assert_one_clear_error(outcome, code: int, *says: str):
    assert outcome.code == code, outcome.err
    errors = [line for line in outcome.err.splitlines() if line.startswith("wuerstchen: error: ")]
    assert len(errors) == 1
    for each in says:
        assert each in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert [path for path in Path().rglob("*") if path.suffix in (".png", ".part")] == []


def test_run_prints_the_path_of_a_picture_that_carries_what_made_it(tiny, wuerstchen):
    outcome = wuerstchen("run", *tiny, "--set=Prompt.value=a blue ring", "--seed=5")
    assert outcome.code == 0, outcome.err
    assert outcome.lines == ["output/wuerstchen_00001_.png"]
    assert "Stage C: step 2 of 2" in outcome.err
    with Image.open(outcome.lines[0]) as image:
        assert image.size == (128, 128)
    prompt = carried(outcome.lines[0])
    assert prompt["2"]["inputs"]["value"] == "a blue ring"
    assert prompt["8"]["inputs"]["seed"] == prompt["10"]["inputs"]["seed"] == 5
    Path("e.json").write_text(json.dumps(load_workflow(outcome.lines[0]).editor))
    again = [wuerstchen("run", source, "--quiet") for source in (outcome.lines[0], "e.json")]
    assert [each.lines for each in again] == [[f"output/wuerstchen_0000{i}_.png"] for i in (2, 3)]
    assert again[0].err == ""
    first, *others = (Image.open(f"output/wuerstchen_0000{i}_.png").tobytes() for i in (1, 2, 3))
    assert all(other == first for other in others)


def test_run_in_json_with_a_drawn_seed_and_a_pattern(tiny, wuerstchen):
    outcome = wuerstchen(
        "run", *tiny, "--set=8.batch_size=2", "--json", "--seed=random", "--out=o/{prefix}-{index}.png"
    )
    events = [json.loads(line) for line in outcome.lines]
    assert [each["path"] for each in events if each["event"] == "saved"] == ["o/wuerstchen-1.png", "o/wuerstchen-2.png"]
    seed = next(each["seed"] for each in events if each["event"] == "seed")
    assert f"Seed: {seed}" in outcome.err
    assert events[-1]["event"] == "done"
    assert carried("o/wuerstchen-2.png")["8"]["inputs"]["seed"] == seed
    one, two = (Image.open(f"o/wuerstchen-{index}.png").tobytes() for index in (1, 2))
    assert one != two


def test_stage_reuse_runs_stage_c_once_and_loads_each_stage_once(models, tiny, wuerstchen):
    settings = [each.replace("8.", "Stage C Sampler.") for each in tiny if "=8." in each]
    names = {"Text Encoder for Stage C": "text_c", "Text Encoder for Stage B": "text_b"}
    names |= {f"Load Stage {stage}": f"stage_{stage.lower()}" for stage in "CBA"}
    settings += [f"--set={title}.model={name}" for title, name in names.items()]
    settings += [f"--set=Stage B Decode, seed {i}.steps=1" for i in (1, 2, 3)]
    outcome = wuerstchen("run", "stage_reuse", *settings)
    assert outcome.code == 0, outcome.err
    assert outcome.lines == [f"output/stage_reuse_{i}_00001_.png" for i in (1, 2, 3)]
    assert outcome.err.count("Stage C: step 2 of 2") == 1
    assert outcome.err.count("Stage B: step 1 of 1") == 3
    assert len({Image.open(path).tobytes() for path in outcome.lines}) == 3


def test_a_long_prompt_is_drawn_whole_or_what_was_cut_is_said(tiny, wuerstchen):
    options = ("run", *tiny, f"--set=Prompt.value={'a ' * 80}the very end", "--quiet")
    outcome = wuerstchen(*options)
    assert (outcome.code, outcome.err) == (0, "")
    outcome = wuerstchen(*options, "--set=4.weights=off", "--set=6.weights=off")
    assert outcome.code == 0
    assert "warning: The prompt is longer than 77 tokens" in outcome.err
    assert "end" in outcome.err


def test_validate_convert_and_slots(tiny, wuerstchen):
    assert "can run: 13 nodes" in wuerstchen("validate", "text_to_image").out
    assert "can run: 13 nodes" in wuerstchen("validate", "workflows/text_to_image.json").out
    converted = json.loads(wuerstchen("convert", "text_to_image", "--set", "Prompt.value=ünïcode").out)
    assert converted["2"]["inputs"]["value"] == "ünïcode"
    Path("api.json").write_text(json.dumps(converted))
    assert json.loads(wuerstchen("convert", "api.json").out) == converted
    listed = wuerstchen("slots")
    assert '2.value = "a large red heart on a white background"  [Prompt, STRING]' in listed.lines
    assert "4.text = linked to node 2  [Prompt for Stage C, STRING]" in listed.lines
    fields = [json.loads(line) for line in wuerstchen("slots", "--json").lines]
    assert {"node": "8", "input": "width", "value": 256, "type": "INT"}.items() <= next(
        each for each in fields if each["node"] == "8" and each["input"] == "width"
    ).items()


def test_what_cannot_run_can_still_be_converted_and_listed(wuerstchen):
    """So that a person sees what to set."""
    prompt = {"1": node("WuerstchenLoadStageC", model="not-here.safetensors", dtype="default")}
    Path("w.json").write_text(json.dumps(prompt))
    assert json.loads(wuerstchen("convert", "w.json").out) == prompt
    assert '1.model = "not-here.safetensors"' in wuerstchen("slots", "w.json").out
    assert wuerstchen("validate", "w.json").code == 3


API = {"1": node("PrimitiveInt", value=1), "2": node("PrimitiveInt", value=["1", 0])}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "absent.json"], 2, ["absent.json cannot be opened"]),
        (["run", "--frobnicate"], 2, ["--frobnicate"]),
        (["run", "--set", "Prompt"], 2, ["NODE.input=value"]),
        (["run", "--set", "Promt.value=x"], 2, ["Did you mean 'Prompt'"]),
        (["run", "--set", "Text Encode.text=x"], 2, ["is 3 nodes"]),
        (["run", "--set", "8.width=wide"], 2, ["expected a whole number"]),
        (["run", "--seed", "x"], 2, ["--seed is 'x'"]),
        (["run", "--seed", "-1"], 2, ["--seed is '-1'"]),
        (["run", "--seed", str(2**64)], 2, ["--seed"]),
        (["run", "--out", "x.jpg"], 2, ["pictures are saved as PNG only"]),
        (["run", "--out", "{x}.png"], 2, ["{x}"]),
        (["run", "--out", ""], 2, ["--out is empty"]),
        (["generate", ""], 2, ["The prompt is empty"]),
        (["generate", "x", "--model", "v3"], 2, ["--model is 'v3'; expected one of cocktail"]),
        ([], 2, ["expected a verb"]),
        (["run", "--set", "8.width=0"], 3, ["Value 0 smaller than min of 128", "Stage C Sampler"]),
        (["run", "--set", "8.width=100000"], 3, ["Value 100000 bigger than max"]),
        (["generate", "x", "--width", "64"], 3, ["Value 64 smaller than min"]),
        (["run", "--set", "7.model=nope"], 3, ["'nope' not in ['cocktail'"]),
        (["run", "--set", "13.filename_prefix=../../x", "--out", "o"], 1, ["Node 13", "leads out of"]),
        (["run", "--out", "/proc/here"], 1, ["Cannot write to the output folder /proc/here"]),
        (["run", "--out", "file/here"], 1, ["Cannot write to the output folder file/here"]),
    ],
)
def test_bad_usage_and_bad_values(tiny, wuerstchen, monkeypatch, arguments, code, says):
    Path("file").touch()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    if arguments[:1] == ["run"]:
        arguments = ["run", *tiny, *arguments[1:]]
    assert_one_clear_error(wuerstchen(*arguments), code, *says)


LATENT_TO_IMAGE = editor(
    [
        editor_node(1, "WuerstchenLoadStageA", widgets_values=["cocktail", "default"]),
        editor_node(2, "PrimitiveInt", widgets_values=[1, "fixed"]),
        editor_node(
            3,
            "WuerstchenStageADecode",
            inputs=[socket("stage_a", "WUERSTCHEN_STAGE_A", 1), socket("latent", "LATENT", 2)],
        ),
        editor_node(4, "SaveImage", inputs=[socket("images", "IMAGE", 3)], widgets_values=["x"]),
    ],
    [[1, 1, 0, 3, 0, "WUERSTCHEN_STAGE_A"], [2, 2, 0, 3, 1, "LATENT"], [3, 3, 0, 4, 0, "IMAGE"]],
)
CIRCLE = {
    "1": node("WuerstchenStageADecode", "One", stage_a=["3", 0], latent=["2", 0]),
    "2": node("WuerstchenStageBDecode", "Two", stage_b=["3", 0], latent=["2", 0], seed=1, steps=1, cfg=0),
    "3": node("WuerstchenLoadStageA", model="cocktail", dtype="default"),
    "4": node("SaveImage", images=["1", 0], filename_prefix="x"),
}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", ["is not JSON"]),
        ("[]", ["holds a list at the top"]),
        ('{"1": {"inputs": {}}}', ["without class_type"]),
        ("[" * 100_000, ["more than 100 levels deep"]),
        (json.dumps({"nodes": [{"id": 1}]}), ["nodes.0.type"]),
        (json.dumps(LATENT_TO_IMAGE), ["received_type(INT) mismatch input_type(LATENT)"]),
        (json.dumps(CIRCLE), ['2 "Two" (WuerstchenStageBDecode) -> 2 "Two"']),
        (json.dumps({"4": node("SaveImage", filename_prefix="x")}), ["Required input is missing: images"]),
        (json.dumps({"1": node("WuerstchenStageDSampler")}), ["Did you mean WuerstchenStage"]),
        (json.dumps(API), ["no output"]),
    ],
)
@pytest.mark.parametrize("verb", ["run", "validate"])
def test_an_invalid_workflow_is_refused_before_anything_runs(wuerstchen, content, says, verb):
    Path("w.json").write_text(content)
    assert_one_clear_error(wuerstchen(verb, "w.json"), 3, *says)


def test_an_invalid_workflow_in_json_has_the_server_s_shapes(wuerstchen):
    Path("w.json").write_text(json.dumps({"4": node("SaveImage", filename_prefix="x")}))
    outcome = wuerstchen("validate", "w.json", "--json")
    (event,) = [json.loads(line) for line in outcome.lines]
    assert (outcome.code, event["exit_code"]) == (3, 3)
    assert event["node_errors"]["4"]["errors"][0]["type"] == "required_input_missing"
    assert event["node_errors"]["4"]["dependent_outputs"] == ["4"]


def test_weights_that_are_not_here(tiny, wuerstchen):
    outcome = wuerstchen("run", *tiny, "--set=7.model=v2-base")
    assert_one_clear_error(outcome, 4, "warp-ai/wuerstchen-prior-model-base", "wuerstchen download v2-base", "Node 7")


@pytest.mark.parametrize("damage", ["truncated", "another stage"])
def test_a_damaged_checkpoint_or_one_of_another_stage(models, tiny, wuerstchen, tmp_path, monkeypatch, damage):
    source = "stage_c" if damage == "truncated" else "stage_b"
    content = next((models[0] / source).glob("*.safetensors")).read_bytes()
    for folder in models[0].iterdir():
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / folder.name).symlink_to(folder)
    (tmp_path / "models" / "bad.safetensors").write_bytes(content[:-100] if damage == "truncated" else content)
    monkeypatch.setenv("WUERSTCHEN_MODELS", str(tmp_path / "models"))
    assert_one_clear_error(wuerstchen("run", *tiny, "--set=7.model=bad.safetensors"), 1, "Node 7", "bad.safetensors")


def test_a_latent_of_the_wrong_stage(tiny, wuerstchen):
    prompt = json.loads(wuerstchen("convert", "text_to_image", *tiny).out)
    prompt["12"]["inputs"]["latent"] = ["8", 0]
    Path("w.json").write_text(json.dumps(prompt))
    assert_one_clear_error(wuerstchen("run", "w.json"), 1, "Node 12", "Stage A VQGAN Decode expects 4")


def test_an_interruption_ends_with_130_and_nothing_half_written(tiny, wuerstchen, monkeypatch):
    from wuerstchen_nodes.headless.host import HeadlessHost

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(HeadlessHost, "progress", lambda *_: interrupt)
    outcome = wuerstchen("run", *tiny)
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == "wuerstchen: interrupted"
    assert not Path("output").exists()


def test_debug_shows_the_traceback(wuerstchen):
    outcome = wuerstchen("run", "absent.json", "--debug")
    assert outcome.code == 2
    assert "Traceback" in outcome.err


def test_an_error_that_is_a_bug_is_one_line_too(wuerstchen, monkeypatch):
    monkeypatch.setattr("wuerstchen_nodes.headless.run.convert", lambda *_, **__: 1 / 0)
    outcome = wuerstchen("validate", "text_to_image")
    assert outcome.code == 1
    assert outcome.err == (
        "wuerstchen: error: unexpected ZeroDivisionError: division by zero. Run again with --debug to see where.\n"
    )


def subprocess_run(*arguments, **options):
    command = [sys.executable, "-m", "wuerstchen_nodes.headless.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_as_a_process(tiny):
    done = subprocess_run("run", *tiny, "--quiet", env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "output/wuerstchen_00001_.png\n", "")
    assert Path("output/wuerstchen_00001_.png").is_file()


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wuerstchen_nodes.headless.cli", "run", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "NODE.input=value" in done.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"torch", "transformers", "huggingface_hub", "pydantic", "PIL", "numpy", "diffusers"})
