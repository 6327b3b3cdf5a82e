"""The pack on a real ComfyUI server: it loads, its workflows run and give headless' pictures, and it behaves."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support import tiny
from support.comfyui_graphs import add, ids, one, text_to_image
from support.comfyui_server import Server
from wuerstchen_core import save_stage_c
from wuerstchen_nodes.headless import HeadlessHost, execute, load_workflow
from wuerstchen_nodes.headless.output_files import OutputFiles
from wuerstchen_nodes.headless.workflow import examples
from wuerstchen_nodes.registry import COMFYUI_ONLY, NODE_DISPLAY_NAME_MAPPINGS

ROOT = Path(__file__).parents[2]
WORKFLOWS = [name for name in examples.names() if name != "comfyui_samplers"]


def test_the_pack_loads(server: Server):
    (line,) = re.findall(r"([\d.]+) seconds(.*wuerstchen-nodes)", server.log)
    assert "IMPORT FAILED" not in line[1]
    assert "wuerstchen_core is already loaded" not in server.log
    probe = server.get("/probe")
    assert Path(probe["core"]).resolve() == ROOT / "wuerstchen_core/__init__.py"


def test_every_node_tells_the_page_about_itself(server: Server):
    offered = server.get("/object_info")
    for node, title in {**NODE_DISPLAY_NAME_MAPPINGS, **COMFYUI_ONLY}.items():
        info = offered[node]
        assert info["display_name"] == title
        assert info["category"].startswith("wuerstchen/") and info["description"]
        assert len(info["output_tooltips"]) == len(info["output"])
        inputs = [*info["input"].get("required", {}).values(), *info["input"].get("optional", {}).values()]
        assert inputs and all(options["tooltip"] for _, options in inputs)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_gives_the_picture_that_headless_gives_and_then_rests(server: Server, name, tmp_path):
    given = examples.folder()
    (server.folder / "input").mkdir(exist_ok=True)
    for path in given.glob("wuerstchen_*.png"):
        shutil.copy(path, server.folder / "input")
    models = [server.folder / "models/wuerstchen"]
    host = HeadlessHost(OutputFiles(tmp_path), model_folders=models, input_folders=[given])
    result = execute(load_workflow(name), host=host)
    headless = [np.asarray(Image.open(path).convert("RGB")) for path in (*result.images, *result.previews)]

    for node in result.prompt.values():
        if node["class_type"] == "SaveImage":  # a name of its own, or what an earlier test drew last would rest at once
            node["inputs"]["filename_prefix"] += "_of_the_server"
    run = server.run(result.prompt)
    assert run.status == "success", run.error
    pictures = server.images(run)
    assert len(pictures) == len(headless) > 0
    for ours, theirs in zip(headless, pictures, strict=True):
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1

    again = server.watch(result.prompt)
    assert {event["data"]["node"] for event in again.events if event["type"] == "executing"} <= {None}


def test_another_seed_for_stage_b_runs_stage_b_and_what_follows(server: Server):
    prompt = text_to_image()
    server.run(prompt)
    prompt[one(prompt, "StageBDecode")]["inputs"]["seed"] = 41
    ran = set(prompt) - server.run(prompt).cached
    assert ran == ids(prompt, "StageBDecode", "StageADecode", "SaveImage")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_a_compiled_stage_draws_the_same_picture(server: Server):
    prompt = text_to_image()
    (plain,) = server.images(server.run(prompt))
    loader, sampler = one(prompt, "LoadStageC"), one(prompt, "StageCSampler")
    prompt[sampler]["inputs"]["stage_c"] = [add(prompt, "WuerstchenCompileStageC", stage_c=[loader, 0]), 0]
    run = server.run(prompt)
    assert run.status == "success", run.error
    assert {sampler, one(prompt, "SaveImage")} <= set(prompt) - run.cached
    (compiled,) = server.images(run)
    assert np.abs(plain.astype(int) - compiled.astype(int)).max() <= 1


def test_a_bad_prompt_is_answered_with_node_errors(server: Server):
    prompt = text_to_image()
    sampler = one(prompt, "StageCSampler")
    prompt[sampler]["inputs"]["steps"] = 0
    del prompt[sampler]["inputs"]["positive"]
    prompt[one(prompt, "LoadStageB")]["inputs"]["model"] = "gone"
    status, answer = server.post("/prompt", {"prompt": prompt})
    assert status == 400
    kinds = {error["type"] for node in answer["node_errors"].values() for error in node["errors"]}
    assert kinds == {"value_smaller_than_min", "required_input_missing", "value_not_in_list"}


def test_an_error_while_running_says_what_to_do(server: Server):
    prompt = text_to_image()
    decode = one(prompt, "StageADecode")
    prompt[decode]["inputs"]["latent"] = [one(prompt, "StageCSampler"), 0]
    run = server.run(prompt)
    assert run.status == "error" and run.error is not None
    assert run.error["node_id"] == decode
    assert "Stage B Decode first" in run.error["exception_message"]
    assert server.run(text_to_image()).status == "success"


def test_weights_that_are_missing_are_named(server: Server):
    prompt = text_to_image()
    prompt[one(prompt, "LoadStageC")]["inputs"]["model"] = "v2-base"
    run = server.run(prompt)
    assert run.error is not None
    said: str = run.error["exception_message"]
    file = "warp-ai/wuerstchen-prior-model-base/diffusion_pytorch_model.safetensors"
    assert str(server.folder / "models/wuerstchen" / file) in said and "3.97 GB" in said
    assert "Add the node Download Weights" in said
    command = re.search("go to (.*) and run `(.*) -m nodes (download v2-base --to .*)`", said)
    assert command is not None
    helped = subprocess.run([command[2], "-m", "nodes", "download", "--help"], cwd=command[1], capture_output=True)
    assert helped.returncode == 0 and b"--to FOLDER" in helped.stdout


def test_progress_and_previews(server: Server):
    prompt = text_to_image({"Stage C Sampler.steps": 5, "Stage C Sampler.seed": time.time_ns() % 1000000})
    run = server.watch(prompt)
    assert run.status == "success"
    sampler = one(prompt, "StageCSampler")
    steps = [event["data"] for event in run.events if event["type"] == "progress"]
    assert [step["value"] for step in steps if step["node"] == sampler] == [1, 2, 3, 4, 5]
    assert {step["max"] for step in steps if step["node"] == sampler} == {5}
    assert len(run.previews) >= 3
    assert all(128 <= max(image.size) <= 512 for image in run.previews)
    pixels = np.asarray(run.previews[-1], dtype=float)
    assert pixels.std() > 5, "the preview shows nothing"


def test_cancel_stops_within_a_step_and_the_server_goes_on(server: Server):
    prompt = text_to_image({"Stage C Sampler.steps": 1000, "Stage C Sampler.seed": time.time_ns() % 1000000})
    after: list[int] = []

    def cancel_at_the_third(event: dict[str, Any]) -> None:
        if event["type"] == "progress":
            if event["data"]["value"] == 3:
                server.post("/interrupt", {})
            elif event["data"]["value"] > 3:
                after.append(event["data"]["value"])

    run = server.watch(prompt, cancel_at_the_third)
    assert run.events[-1]["type"] == "execution_interrupted"
    assert run.events[-1]["data"]["node_id"] == one(prompt, "StageCSampler")
    # Messages that were on their way when the request went out come in all the same.
    assert len(after) < 50
    assert server.run(text_to_image()).status == "success"


def test_free_really_frees(server: Server):
    server.run(text_to_image())
    assert {"StageA", "StageB", "StageC"} <= set(server.get("/probe")["alive"])
    server.post("/free", {"unload_models": True, "free_memory": True})
    until = time.monotonic() + 30
    while (probe := server.get("/probe"))["alive"] and time.monotonic() < until:
        time.sleep(0.5)
    assert probe["alive"] == [] and probe["loaded"] == []


def test_a_model_in_a_folder_of_extra_model_paths_is_found(server: Server):
    save_stage_c(tiny.stage_c(), server.folder / "elsewhere/my models/mine")
    offered = server.get("/object_info/WuerstchenLoadStageC")["WuerstchenLoadStageC"]["input"]["required"]["model"][0]
    assert "mine" in offered


def test_each_help_page_is_served(server: Server):
    import urllib.request

    (folder,) = {
        re.sub(r"/docs/.*", "", path) for path in server.get("/extensions") if "wuerstchen-nodes/docs" in path
    } or {"/extensions/wuerstchen-nodes"}
    for node in (*NODE_DISPLAY_NAME_MAPPINGS, *COMFYUI_ONLY):
        with urllib.request.urlopen(f"{server.url}{folder}/docs/{node}.md") as answer:
            assert answer.read().startswith(b"# ")
