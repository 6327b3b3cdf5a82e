"""Keep on Disk on a real ComfyUI: across restarts, together with the command, and when its folder fails."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.comfyui_graphs import add, feed, ids, one, ran, text_to_image
from support.comfyui_server import Prompt, Run, Server, started, with_the_pack
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache

ROOT = Path(__file__).parents[2]
SHOWN = "wuerstchen_kept"
BEFORE_STAGE_B = ("LoadStageC", "StageCSampler")


def keeping(settings: dict[str, Any] | None = None, mode: str = "use") -> tuple[Prompt, str]:
    """The text-to-image example with a Keep on Disk behind Stage C, and the id of that node."""
    prompt = text_to_image(settings)
    sampler = one(prompt, "StageCSampler")
    keep = add(prompt, "WuerstchenKeep", value=[sampler, 0], mode=mode)
    feed(prompt, "StageBDecode", "latent", [keep, 0])
    return prompt, keep


def executed(run: Run) -> set[str]:
    """The ids of the nodes that ran."""
    return {event["data"]["node"] for event in run.events if event["type"] == "executing"} - {None}


def told(run: Run, keep: str) -> dict[str, Any]:
    (facts,) = run.outputs[keep][SHOWN]
    return facts


def loads(server: Server) -> list[str]:
    """The networks that ComfyUI has put to work, in order."""
    return re.findall("Requested to load (\\w+)", server.log)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "comfyui"
    folder.mkdir()
    with_the_pack(folder)
    return folder


@pytest.fixture
def command(tmp_path, cache) -> Any:
    """Run a prompt with the command, in ComfyUI's environment: {node id: state}, and the bytes of its picture."""

    def run(prompt: Prompt) -> tuple[dict[str, str], bytes]:
        file = tmp_path / "graph.json"
        file.write_text(json.dumps(prompt))
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)  # another version of torch would have other keys
        command = [python, "-m", "nodes", "run", str(file), "--json", "--out", str(tmp_path / "pictures")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        states = {event["node"]: event["state"] for event in events if event["event"] == "node"}
        (path,) = [event["path"] for event in events if event["event"] == "saved"]
        return states, Image.open(path).tobytes()

    return run


@pytest.mark.usefixtures("cache")
def test_after_a_restart_another_stage_b_seed_runs_nothing_of_stage_c(base):
    prompt, keep = keeping()
    with started(base) as server:
        first = server.watch(prompt)
        assert told(first, keep)["state"] == "kept"
        picture = server.images(first)[0]
        assert loads(server) == ["TextEncoder", "TextEncoder", "StageC", "StageB", "StageA"]
    seed = prompt[one(prompt, "StageBDecode")]["inputs"]["seed"]
    feed(prompt, "StageBDecode", "seed", 77)
    with started(base) as server:
        second = server.watch(prompt)
        facts = told(second, keep)
        assert facts["state"] == "hit" and facts["bytes"] > 1000 and facts["thumbnail"].startswith("data:image/png")
        loaders = {node for node in ids(prompt, "LoadTextEncoder") if prompt[node]["inputs"]["for_stage"] == "C"}
        texts = {node for node in ids(prompt, "TextEncode") if prompt[node]["inputs"]["text_encoder"][0] in loaders}
        assert not executed(second) & (ids(prompt, *BEFORE_STAGE_B) | loaders | texts)
        assert executed(second) >= {keep} | ids(prompt, "StageBDecode")
        assert loads(server) == ["TextEncoder", "StageB", "StageA"]
        assert (server.images(second)[0] != picture).any()  # another Stage B seed
        feed(prompt, "StageBDecode", "seed", seed)
        assert (server.images(ran(server, prompt))[0] == picture).all()


@pytest.mark.usefixtures("cache")
def test_prompts_pictures_and_masks_are_kept_too(base):
    prompt = text_to_image()
    kept = {}
    for kind, source, target, name in (
        ("CONDITIONING", "4", one(prompt, "StageCSampler"), "positive"),
        ("IMAGE", one(prompt, "StageADecode"), one(prompt, "SaveImage"), "images"),
    ):
        kept[kind] = add(prompt, "WuerstchenKeep", value=[source, 0], mode="use")
        prompt[target]["inputs"][name] = [kept[kind], 0]
    mask = add(prompt, "SolidMask", value=0.5, width=64, height=32)
    kept["MASK"] = add(prompt, "WuerstchenKeep", value=[mask, 0], mode="use")
    shown = add(prompt, "PreviewImage", images=[add(prompt, "MaskToImage", mask=[kept["MASK"], 0]), 0])
    with started(base) as server:
        first = server.watch(prompt)
        assert {told(first, each)["state"] for each in kept.values()} == {"kept"}
        pictures = server.images(first)
    with started(base) as server:
        second = server.watch(prompt)
        assert loads(server) == []
        assert executed(second) == {
            kept["IMAGE"],
            kept["MASK"],
            one(prompt, "SaveImage"),
            shown,
            *ids(prompt, "MaskToImage"),
        }
        assert told(second, kept["MASK"])["thumbnail"].startswith("data:image/png")
        assert all((a == b).all() for a, b in zip(server.images(second), pictures, strict=True))


def test_what_the_editor_kept_is_a_hit_in_the_shell_and_the_reverse(base, cache, command):
    prompt, keep = keeping()
    with started(base) as server:
        drawn = server.images(ran(server, prompt))[0]
        states, picture = command(prompt)
        assert states[keep] == "cached", states
        assert not ids(prompt, *BEFORE_STAGE_B) & set(states), states
        assert drawn.tobytes() == picture
        states, picture = command(text_to_image())  # without the node the keys are the same
        assert {node for node, state in states.items() if state == "done"} == {one(prompt, "SaveImage")}
        assert drawn.tobytes() == picture

        shutil.rmtree(cache)
        other, keep = keeping({"Stage C Sampler.seed": 5})
        _, picture = command(other)
        run = server.watch(other)
        assert told(run, keep)["state"] == "hit"
        assert not executed(run) & ids(other, "StageCSampler")
        assert server.images(run)[0].tobytes() == picture


@pytest.mark.usefixtures("cache")
def test_what_changes_is_a_miss(base, tmp_path):
    own = base / "models/wuerstchen/own"
    shutil.copytree(ROOT / "wuerstchen_core/cocktail/prior-base", own)
    with started(base) as server:

        def state() -> str:
            fresh, keep = keeping()
            feed(fresh, "LoadStageC", "model", "own")
            fresh[one(fresh, "StageCSampler")]["inputs"] |= changes
            fresh[one(fresh, "LoadStageC")]["inputs"] |= precision
            return told(server.watch(fresh), keep)["state"]

        changes: dict[str, Any] = {}
        precision: dict[str, Any] = {}
        assert state() == "kept"
        changes = {"seed": 4321}
        assert state() == "kept"
        changes = {}
        assert state() == "hit"
        precision = {"dtype": "bfloat16"}
        assert state() == "kept"
        precision = {}
        weights = own / "diffusion_pytorch_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        assert state() == "kept"


def test_modes(base, cache):
    with started(base) as server:
        prompt, keep = keeping()
        assert told(server.watch(prompt), keep)["state"] == "kept"
        made = DiskCache(cache).entries()[0].made
        prompt[keep]["inputs"]["mode"] = "off"
        assert told(server.watch(prompt), keep) == {"state": "off"}
        prompt[keep]["inputs"]["mode"] = "renew"
        facts = told(server.watch(prompt), keep)
        assert facts["state"] == "kept" and facts["made"] > made
        prompt[keep]["inputs"]["mode"] = "use"
        assert told(server.watch(prompt), keep)["state"] == "hit"
        status, answer = server.post("/wuerstchen/forget", {"key": facts["key"]})
        assert (status, answer) == (200, {"forgotten": True})
        assert DiskCache(cache).entries() == []
        for bad in ({"key": "../../etc/passwd"}, {}, {"key": 3}):
            assert server.post("/wuerstchen/forget", bad)[0] == 400


@pytest.mark.usefixtures("cache")
def test_a_value_of_another_packs_node_passes_through_and_the_node_says_so(base):
    probe = base / "custom_nodes/stranger"
    probe.mkdir()
    (probe / "__init__.py").write_text(
        """
class Stranger:
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "work", "latent"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"latent": ("LATENT",)}})
    def work(self, latent):
        return (latent,)

class Builder(Stranger):
    def work(self, latent):
        from comfy_execution.graph_utils import GraphBuilder
        graph = GraphBuilder()
        keep = graph.node("WuerstchenKeep", value=latent, mode="use")
        return {"result": (keep.out(0),), "expand": graph.finalize()}

NODE_CLASS_MAPPINGS = {"Stranger": Stranger, "Builder": Builder}
"""
    )
    with started(base) as server:
        prompt, keep = keeping()
        stranger = add(prompt, "Stranger", latent=[one(prompt, "StageCSampler"), 0])
        prompt[keep]["inputs"]["value"] = [stranger, 0]
        run = server.watch(prompt)
        facts = told(run, keep)
        assert facts["state"] == "refused" and "Stranger" in facts["reason"]
        assert run.status == "success"
        # so does one in a graph that a node builds while it runs
        builder = add(prompt, "Builder", latent=[one(prompt, "StageCSampler"), 0])
        feed(prompt, "StageBDecode", "latent", [builder, 0])
        run = server.watch(prompt)
        assert run.status == "success"
        built = [event["data"]["output"] for event in run.events if event["type"] == "executed"]
        (facts,) = [each[SHOWN][0] for each in built if SHOWN in each]
        assert facts["state"] == "refused" and "another node built" in facts["reason"]
        feed(prompt, "StageBDecode", "latent", [keep, 0])
        # ComfyUI's own nodes can be told, whatever their texts are
        text = add(prompt, "StringConcatenate", string_a="星" * 250, string_b="a red star", delimiter=".")
        prompt["4"]["inputs"]["text"] = [text, 0]
        flip = add(prompt, "LatentFlip", samples=[one(prompt, "StageCSampler"), 0], flip_method="x-axis: vertically")
        prompt[keep]["inputs"]["value"] = [flip, 0]
        assert told(server.watch(prompt), keep)["state"] == "kept"


@pytest.mark.parametrize("fault", ["no folder", "cut"])
def test_a_folder_that_fails_costs_a_warning_and_no_picture(base, cache, fault):
    prompt, keep = keeping()
    if fault == "no folder":
        cache.write_text("a file where the folder should be")
    with started(base) as server:
        run = server.watch(prompt)
        assert run.status == "success"
        if fault == "cut":
            assert told(run, keep)["state"] == "kept"
            entry = cache / f"{told(run, keep)['key']}.safetensors"
            entry.write_bytes(entry.read_bytes()[:-7])
            feed(prompt, "StageBDecode", "seed", 4)
            prompt[keep]["_meta"] = {"title": "again"}
    if fault == "cut":
        with started(base) as server:
            run = server.watch(prompt)
            assert run.status == "success" and told(run, keep)["state"] == "kept"
            assert server.log.count("is damaged") == 1
    else:
        assert told(run, keep)["state"] == "refused"
        assert server.log.count("cannot be kept in") == 1


def test_two_servers_write_the_same_entry(tmp_path, cache):
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    servers: list[Server] = []
    with ExitStack() as stack:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            with_the_pack(tmp_path / name)
            servers.append(stack.enter_context(started(tmp_path / name)))
        prompt, keep = keeping()
        with ThreadPoolExecutor(2) as pool:
            runs = list(pool.map(lambda server: server.watch(json.loads(json.dumps(prompt))), servers))
        assert {told(run, keep)["state"] for run in runs} <= {"kept", "hit"}
        assert len(DiskCache(cache).entries()) == 1
        first, second = (server.images(run)[0] for server, run in zip(servers, runs, strict=True))
        assert (first == second).all()
