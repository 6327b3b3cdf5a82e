"""Test the command line with `--server`, on a real ComfyUI server."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.comfyui_server import Server
from wuerstchen_nodes.headless import cli

QUICK = ["--set=Stage C Sampler.steps=2", "--set=Stage B Decode.steps=1"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def wuerstchen(server: Server, capsys):
    """Return a function that runs the command on the server and returns (exit code, lines of stdout, stderr)."""

    def command(*arguments):
        try:
            code = cli.main([*map(str, arguments), f"--server={server.url}"])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return command


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_a_run_on_the_server_saves_the_same_files_as_a_local_run(wuerstchen):
    options = ("run", "text_to_image", *QUICK, "--seed=21")
    code, lines, err = wuerstchen(*options, "--out=remote")
    assert code == 0, err
    assert lines == ["remote/wuerstchen_00001_.png"]
    assert "Stage C Sampler: step 2 of 2" in err
    assert cli.main([*options, "--out=local", "--quiet"]) == 0
    assert np.abs(pixels("remote/wuerstchen_00001_.png") - pixels("local/wuerstchen_00001_.png")).max() <= 1
    with Image.open(lines[0]) as image:
        prompt, workflow = json.loads(image.info["prompt"]), json.loads(image.info["workflow"])
    assert prompt["8"]["inputs"]["seed"] == 21
    assert {node["id"] for node in workflow["nodes"]} >= set(range(1, 14))
    assert wuerstchen("run", "text_to_image", *QUICK, "--seed=21", "--out=named.png")[1][-1] == "named.png"


def test_events_name_the_nodes_that_ran_and_the_cache_hits(wuerstchen):
    options = ("run", "text_to_image", *QUICK, "--seed=22", "--json")
    states: list[dict[str, str]] = []
    for _ in range(2):
        code, lines, _ = wuerstchen(*options)
        assert code == 0
        reported = events(lines)
        assert len([event for event in reported if event["event"] == "saved"]) == 1
        assert reported[-1]["event"] == "done"
        states.append({event["node"]: event["state"] for event in reported if event["event"] == "node"})
    assert set(states[0]) == set(states[1]) == {f"{node}" for node in range(1, 14)}
    assert states[0]["8"] == states[0]["13"] == "done"
    assert set(states[1].values()) == {"cached"}


def test_nodes_that_only_comfyui_has(wuerstchen):
    code, lines, err = wuerstchen("run", "comfyui_samplers", "--set=10.steps=2", "--set=14.steps=1", "--quiet")
    assert code == 0, err
    assert len(lines) == 1 and Path(lines[0]).is_file()


def test_workflows_with_nodes_that_only_comfyui_has_are_converted_and_listed(wuerstchen):
    code, lines, _ = wuerstchen("convert", "comfyui_samplers", "--json")
    assert code == 0
    assert "KSampler" in {node["class_type"] for node in json.loads(lines[0]).values()}
    _, lines, _ = wuerstchen("slots", "comfyui_samplers", "--json")
    assert ("KSampler", "denoise") in {(slot["class_type"], slot["input"]) for slot in events(lines)}


def test_local_images_are_uploaded(wuerstchen, server: Server):
    folder = Path("beside")
    folder.mkdir()
    rows = np.random.default_rng(5).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(rows).save(folder / "upload me.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "upload me.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "sub/inverted"}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    (folder / "w.json").write_text(json.dumps(prompt))
    for number in (1, 2):
        code, lines, err = wuerstchen("run", folder / "w.json")
        assert code == 0, err
        assert lines == [f"output/sub/inverted_0000{number}_.png"]
        assert np.abs(pixels(lines[0]) - (255 - rows.astype(int))).max() <= 1
        assert "Preview: " in err
    assert len(list((server.folder / "input").glob("upload me*"))) == 1


def test_a_sweep_with_a_grid(wuerstchen):
    options = (*QUICK, "--sweep=Stage B Decode.seed=1..3", "--grid=sheet.png", "--quiet")
    code, lines, err = wuerstchen("run", "text_to_image", *options)
    assert code == 0, err
    assert lines == [*(f"output/wuerstchen_0000{i}_.png" for i in (1, 2, 3)), "sheet.png"]


def test_generate_through_a_pipe(wuerstchen, server: Server, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", stdout)
    assert cli.main(["generate", "a red star", "--seed=3", "--quiet", f"--server={server.url}"]) == 0
    assert isinstance(stdout.buffer, io.BytesIO)
    with Image.open(io.BytesIO(stdout.buffer.getvalue())) as image:
        assert json.loads(image.info["prompt"])["2"]["inputs"]["value"] == "a red star"


def test_a_workflow_that_the_server_refuses_is_invalid(wuerstchen, server: Server):
    code, lines, err = wuerstchen("run", "text_to_image", "--set=Stage C Sampler.steps=0", "--json")
    assert code == 3
    (event,) = events(lines)
    assert event["node_errors"]["8"]["errors"][0]["type"] == "value_smaller_than_min"
    assert '8 "Stage C Sampler"' in err
    Path("w.json").write_text(json.dumps({"1": {"class_type": "NoSuchNode", "inputs": {}}}))
    code, _, err = wuerstchen("run", "w.json")
    assert code == 3
    assert f"the server {server.url} has no node NoSuchNode" in err


def test_one_invalid_output_among_valid_ones_is_refused(wuerstchen, server: Server):
    """The server alone would run the valid output; a local run refuses the workflow."""
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "good"}},
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "bad"}},
    }
    Path("w.json").write_text(json.dumps(prompt))
    code, lines, err = wuerstchen("run", "w.json")
    assert (code, lines) == (3, [])
    assert "Required input is missing" in err


def test_failures_on_the_server_have_the_exit_codes_of_local_failures(wuerstchen):
    code, _, err = wuerstchen("run", "text_to_image", "--set=Load Stage C.model=v2-base")
    assert code == 4 and "-m nodes download v2-base" in err
    prompt = {
        "1": {"class_type": "WuerstchenLoadStageA", "inputs": {"model": "cocktail", "dtype": "default"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "3": {"class_type": "LatentFromBatch", "inputs": {"samples": ["2", 0], "batch_index": 0, "length": 1}},
        "4": {"class_type": "WuerstchenStageBDecode", "inputs": {"latent": ["3", 0], "seed": 1, "steps": 1, "cfg": 0}},
        "5": {"class_type": "WuerstchenLoadStageB", "inputs": {"model": "cocktail", "dtype": "default"}},
        "6": {"class_type": "WuerstchenStageADecode", "inputs": {"stage_a": ["1", 0], "latent": ["4", 0]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }
    prompt["4"]["inputs"]["stage_b"] = ["5", 0]
    Path("w.json").write_text(json.dumps(prompt))
    code, _, err = wuerstchen("run", "w.json")
    assert code == 1 and "Node 4" in err and "Stage C Sampler" in err


def test_an_interruption_cancels_the_prompt_on_the_server(wuerstchen, server: Server, monkeypatch):
    from wuerstchen_nodes.headless.host import HeadlessHost

    def interrupt_at_step_2(self, steps, label):
        def update(done, preview):
            if done >= 2:
                raise KeyboardInterrupt

        return update

    monkeypatch.setattr(HeadlessHost, "progress", interrupt_at_step_2)
    code, lines, _ = wuerstchen("run", "text_to_image", "--set=Stage C Sampler.steps=1000", "--seed=random")
    assert (code, lines) == (130, [])
    history = server.settled()
    assert [kind for kind, _ in history["status"]["messages"]][-1] == "execution_interrupted"
    assert server.run({"1": {"class_type": "PreviewAny", "inputs": {"source": "still there"}}}).status == "success"
