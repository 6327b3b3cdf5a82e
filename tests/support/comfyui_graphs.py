"""Small prompts in the API format for the tests on a real ComfyUI."""

from collections.abc import Mapping
from typing import Any

from support.comfyui_server import Prompt
from wuerstchen_nodes.headless import load_workflow, prepare

FEW_STEPS = {"Stage C Sampler.steps": 2, "Stage B Decode.steps": 1}


def text_to_image(settings: Mapping[str, Any] | None = None) -> Prompt:
    """Return the text-to-image example in the API format, with few steps; settings are {"NODE.input": value}."""
    return prepare(load_workflow("text_to_image"), {**FEW_STEPS, **(settings or {})}).prompt


def ids(prompt: Prompt, *classes: str) -> set[str]:
    """Return the ids of the nodes of some classes, named without the prefix "Wuerstchen"."""
    return {node for node, content in prompt.items() if content["class_type"].removeprefix("Wuerstchen") in classes}


def one(prompt: Prompt, class_type: str) -> str:
    """Return the id of the only node of a class."""
    (node,) = ids(prompt, class_type)
    return node


def add(prompt: Prompt, class_type: str, **inputs: Any) -> str:
    """Add a node and return its id."""
    node = str(max(map(int, prompt)) + 1)
    prompt[node] = {"class_type": class_type, "inputs": inputs}
    return node


def feed(prompt: Prompt, class_type: str, name: str, value: Any) -> None:
    """Set an input of the only node of a class."""
    prompt[one(prompt, class_type)]["inputs"][name] = value
