"""Right arguments for every node class, and the wrong values to put in their place."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from support import bad_values, tiny
from support.bad_values import Values
from support.hosts import conditioning
from wuerstchen_core import load_text_encoder
from wuerstchen_nodes.comfy.nodes import NODE_CLASS_MAPPINGS as COMFYUI_ONLY
from wuerstchen_nodes.host import host
from wuerstchen_nodes.loaders import LoadStageC
from wuerstchen_nodes.registry import NODE_CLASS_MAPPINGS

NODES = {**NODE_CLASS_MAPPINGS, **COMFYUI_ONLY}
TEXT_C, TEXT_B = tiny.STAGE_C.c_cond, tiny.STAGE_B_OWN_TEXT.clip_embd
_SAMPLED = {"seed": 1, "steps": 2, "cfg": 2.0}


@cache
def network(kind: str) -> Any:
    """Return a tiny network by the type of its socket."""
    made = {
        "WUERSTCHEN_STAGE_C": tiny.stage_c,
        "WUERSTCHEN_STAGE_B": lambda: tiny.stage_b(tiny.STAGE_B_OWN_TEXT),
        "WUERSTCHEN_STAGE_A": tiny.stage_a,
        "WUERSTCHEN_TEXT_ENCODER": lambda: load_text_encoder("cocktail", for_stage="C"),
        "WUERSTCHEN_IMAGE_ENCODER": tiny.image_encoder,
    }
    return made[kind]()


NETWORKS = [f"WUERSTCHEN_{each}" for each in ("STAGE_C", "STAGE_B", "STAGE_A", "TEXT_ENCODER", "IMAGE_ENCODER")]


def entries(node_id: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the type and the options of every input of a node."""
    declared = NODES[node_id].INPUT_TYPES()
    inputs = {**declared["required"], **declared.get("optional", {})}
    return {name: (entry[0], entry[1] if len(entry) > 1 else {}) for name, entry in inputs.items()}


def _embeddings() -> dict[str, Any]:
    return {"samples": torch.rand(1, 16, 6, 3)}


def right(node_id: str) -> dict[str, Any]:
    """Return right arguments of a node: the defaults of widgets, and small values at its sockets."""
    arguments: dict[str, Any] = {}
    for name, (kind, options) in entries(node_id).items():
        if isinstance(kind, list):
            arguments[name] = options.get("default", kind[0])
        elif kind in NETWORKS:
            arguments[name] = host().keep(network(kind))
        elif kind == "IMAGE":
            arguments[name] = torch.rand(1, 16, 16, 3)
        elif kind == "CONDITIONING":
            arguments[name] = conditioning(TEXT_B if node_id == "WuerstchenStageBDecode" else TEXT_C)
        elif kind == "LATENT":
            of_b = name == "start" or node_id == "WuerstchenStageADecode"
            arguments[name] = {"samples": torch.rand(1, 4, 64, 32)} if of_b else _embeddings()
        elif kind == "MODEL":
            arguments[name] = None
        elif "default" in options:
            arguments[name] = options["default"]
    arguments |= {name: value for name, value in _SAMPLED.items() if name in arguments}
    if "model" in arguments and node_id != "WuerstchenDownload":
        arguments["model"] = "cocktail"
    if node_id == "WuerstchenLoadLoRA":
        (arguments["stage_c"],) = LoadStageC().load("cocktail", "default")
    if "count" in arguments:
        arguments["count"] = 2
    if "width" in arguments:
        arguments |= {"width": 128, "height": 256}
    if node_id == "WuerstchenKeep":
        arguments = {"value": [_embeddings()], "mode": ["use"], "prompt": [{}], "unique_id": ["1"]}
    return arguments


def wrong(node_id: str, name: str) -> Values:
    """Return wrong values for an input of a node, and a few that look wrong and may be right."""
    kind, options = entries(node_id)[name]
    if isinstance(kind, list):
        is_name = options.get("takes_path_headless", False)
        return {**bad_values.TEXTS, **bad_values.NAMES, **({} if is_name else {"another case": kind[0].upper() + " "})}
    if kind in NETWORKS:
        others = {f"kept {other}": host().keep(network(other)) for other in NETWORKS if other != kind}
        bare = {f"bare {other}": network(other) for other in NETWORKS if other != kind}
        return {**bad_values.ANYTHING, **others, **bare, "a layer": torch.nn.Linear(1, 1)}
    if kind == "CONDITIONING":
        return bad_values.conditionings(TEXT_B if node_id == "WuerstchenStageBDecode" else TEXT_C)
    if kind == "LATENT":
        of_b = name == "start" or node_id == "WuerstchenStageADecode"
        return bad_values.latents(4, 64, 32) if of_b else bad_values.latents(16, 6, 3)
    if kind == "IMAGE":
        return bad_values.images()
    if kind == "STRING":
        return {**bad_values.TEXTS, **(bad_values.NAMES if name == "filename_prefix" else {})}
    if kind == "BOOLEAN":
        return {each: value for each, value in bad_values.ANYTHING.items() if value is not True} | {"1": 1, "0": 0}
    if kind in ("INT", "FLOAT"):
        step = 1 if kind == "INT" else 1e-6
        beyond = {"too small": options["min"] - step, "too large": options["max"] + step}
        return {**bad_values.NUMBERS, **beyond, **({"a fraction": 1.5} if kind == "INT" else {})}
    return bad_values.ANYTHING  # MODEL, and what Keep on Disk takes


def call(node_id: str, arguments: dict[str, Any]) -> Any:
    """Run a node as its host does: what is lazy first, then its function."""
    node = NODES[node_id]()
    if hasattr(node, "check_lazy_status"):
        node.check_lazy_status(**arguments)
    return getattr(node, node.FUNCTION)(**arguments)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a result."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):  # the other keys of a LATENT go through as they are
        yield from tensors_in(value.get("samples"))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from tensors_in(inner)
