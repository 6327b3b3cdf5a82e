"""Attacks on the nodes inside a real ComfyUI: wrong values at their sockets, through the node WrongValue."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import bad_values
from support.comfyui_server import Prompt, Server

WRONG = Path(__file__).parent / "comfyui_wrong"
"""Node pack with WrongValue."""
OWN_ERRORS = "wuerstchen_core.errors."


def loaders() -> Prompt:
    """Return a graph of everything that is loaded or made without computing much, by names for ids."""
    parts = {
        "stage_c": ("WuerstchenLoadStageC", {"model": "cocktail", "dtype": "default"}),
        "stage_b": ("WuerstchenLoadStageB", {"model": "cocktail", "dtype": "default"}),
        "stage_a": ("WuerstchenLoadStageA", {"model": "cocktail", "dtype": "default"}),
        "image_encoder": ("WuerstchenLoadImageEncoder", {"model": "cocktail"}),
        "text_encoder": ("WuerstchenLoadTextEncoder", {"model": "cocktail", "for_stage": "C"}),
        "text": ("WuerstchenTextEncode", {"text_encoder": ["text_encoder", 0], "text": "a red heart"}),
        "model": ("WuerstchenStageCToModel", {"stage_c": ["stage_c", 0]}),
        "vae": ("WuerstchenStageAToVAE", {"stage_a": ["stage_a", 0]}),
        "empty": ("WuerstchenEmptyLatent", {"width": 256, "height": 256, "batch_size": 1}),
        "image": ("EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 255}),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in parts.items()}


SAMPLED = {"seed": 1, "steps": 2, "cfg": 1.0}
TARGETS: dict[str, dict[str, Any]] = {
    "WuerstchenTextEncode": {"text_encoder": ["text_encoder", 0], "text": "a heart"},
    "WuerstchenStageCSampler": {
        **{"stage_c": ["stage_c", 0], "positive": ["text", 0], "negative": ["text", 0], **SAMPLED},
        **{"schedule": "v2", "width": 256, "height": 256, "batch_size": 1, "latent": ["empty", 0], "denoise": 0.5},
    },
    "WuerstchenStageBDecode": {"stage_b": ["stage_b", 0], "latent": ["empty", 0], **SAMPLED, "start": ["empty", 1]},
    "WuerstchenStageADecode": {"stage_a": ["stage_a", 0], "latent": ["empty", 1]},
    "WuerstchenStageAEncode": {"stage_a": ["stage_a", 0], "image": ["image", 0]},
    "WuerstchenImageEncode": {"image_encoder": ["image_encoder", 0], "image": ["image", 0]},
    "WuerstchenCheckpointInterpolate": {"base": ["stage_c", 0], "finetuned": ["stage_c", 0], "weight": 0.5},
    "WuerstchenMergeCheckpoints": {
        **{"stage_c_1": ["stage_c", 0], "stage_c_2": ["stage_c", 0], "weight_1": 1.0, "weight_2": 1.0}
    },
    "WuerstchenCompileStageC": {"stage_c": ["stage_c", 0]},
    "WuerstchenCompileStageB": {"stage_b": ["stage_b", 0]},
    "WuerstchenSaveStageC": {"stage_c": ["stage_c", 0], "filename_prefix": "saved"},
    "WuerstchenLoadStageB": {"model": "cocktail", "dtype": "default"},
    "WuerstchenLoadLoRA": {"stage_c": ["stage_c", 0], "name": "cocktail-lime", "strength": 1.0},
    "WuerstchenStageCToModel": {"stage_c": ["stage_c", 0]},
    "WuerstchenModelToStageC": {"model": ["model", 0]},
    "WuerstchenStageBToModel": {"stage_b": ["stage_b", 0]},
    "WuerstchenStageAToVAE": {"stage_a": ["stage_a", 0]},
    "WuerstchenImageEncoderToVAE": {"image_encoder": ["image_encoder", 0]},
    "WuerstchenSigmas": {"steps": 3, "schedule": "v2", "denoise": 1.0},
    "WuerstchenKeep": {"value": ["empty", 0], "mode": "renew"},
    "WuerstchenEmptyLatent": {"width": 256, "height": 256, "batch_size": 1},
}
"""Node -> right inputs, as links into `loaders`."""
KINDS = {"latent": "latent of C", "start": "latent of B", "positive": "conditioning", "negative": "conditioning"}
KINDS |= {"image": "image", "model": "anything", "filename_prefix": "name", "name": "name"}
VALUES = {"anything": bad_values.ANYTHING, "image": bad_values.images(), "number": bad_values.NUMBERS}
VALUES |= {"conditioning": bad_values.conditionings(128), "name": bad_values.NAMES}
VALUES |= {"latent of C": bad_values.latents(16, 6, 6), "latent of B": bad_values.latents(4, 64, 64)}
NETWORKS = ("stage_c", "stage_b", "stage_a", "image_encoder", "text_encoder", "model", "vae")


def attacks() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield node, input and the inputs of the WrongValue that feeds it; a part of the values, or it would take long."""
    chance = random.Random(3)
    for node, inputs in TARGETS.items():
        for name, value in inputs.items():
            kind = KINDS.get(name, "anything" if isinstance(value, list) else "number")
            if node == "WuerstchenLoadStageB" and name == "model":
                kind = "name"
            if node == "WuerstchenStageADecode" and name == "latent":
                kind = "latent of B"
            # ComfyUI cannot send the history of a number of more than 4,300 digits
            for wrong in chance.sample(sorted(VALUES[kind].keys() - {"5000 digits"}), 5):
                yield node, name, {"kind": kind, "name": wrong}
            if isinstance(value, list) and name.removesuffix("_1").removesuffix("_2") in (*NETWORKS, "base"):
                for other in NETWORKS:
                    if other != value[0]:
                        yield node, name, {"kind": "", "name": "", "value": [other, 0]}


def ended(server: Server, prompts: list[Prompt]) -> list[dict[str, Any]]:
    """Queue prompts, and return what the history says of each at the end."""
    ids = []
    for prompt in prompts:
        status, answer = server.post("/prompt", {"prompt": prompt})
        assert status == 200 and not answer["node_errors"], answer
        ids.append(answer["prompt_id"])
    server.settled(seconds=120)
    history = server.get("/history")
    return [history[each] for each in ids]


def fault_of(entry: dict[str, Any], node: str) -> str | None:
    """Return what is wrong with the error of a run, which a node should have raised; None for one that is right."""
    for kind, said in entry["status"]["messages"]:
        if kind == "execution_error":
            text = said["exception_message"].strip()
            own = said["exception_type"].startswith(OWN_ERRORS) and "\n" not in text and len(text) < 1500
            return None if own and said["node_id"] == node else f"{said['exception_type']} at {said['node_id']}: {text}"
    return None
