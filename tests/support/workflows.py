"""Toy nodes, builders of small workflows, and folders of tiny checkpoints, for the tests of headless runs."""

import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from support import tiny
from wuerstchen_core.checkpoints.saving import save_image_encoder, save_stage_a, save_stage_b, save_stage_c
from wuerstchen_nodes.headless.workflow.catalog import Catalog

QUICK_RUN = ["8.steps=2", "10.steps=1", "8.width=128", "8.height=128"]
"""Settings that make a run of the text-to-image example fast."""

CALLS: list[str] = []
"""Classes of the toy nodes that ran, in order; a fixture clears it."""


class Toy:
    """Base of the toy nodes: a FUNCTION named work, no inputs, one INT output."""

    FUNCTION = "work"
    RETURN_TYPES: tuple[str, ...] = ("INT",)
    OUTPUT_NODE = False

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}


class Number(Toy):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0, "min": -10, "max": 10})}}

    def work(self, value: int) -> Any:
        CALLS.append(type(self).__name__)
        return (value,)


class Add(Toy):
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"a": ("INT", {"forceInput": True}), "b": ("INT", {"forceInput": True})}}

    def work(self, a: int, b: int) -> tuple[int]:
        CALLS.append("Add")
        return (a + b,)


class Show(Toy):
    """An output node."""

    RETURN_TYPES, OUTPUT_NODE = (), True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"forceInput": True})}}

    def work(self, value: int) -> dict[str, Any]:
        CALLS.append("Show")
        return {"ui": {"numbers": [value]}}


class Seeded(Toy):
    """A node with widgets of every kind."""

    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "source": ("INT", {"forceInput": True}),
                "seed": ("INT", {"default": 3, "min": 0, "max": 2**64 - 1, "control_after_generate": True}),
                "mode": (["fast", "slow"], {"default": "fast"}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0}),
            },
            "optional": {"text": ("STRING", {"default": "", "multiline": True}), "on": ("BOOLEAN", {"default": True})},
        }

    def work(self, source: int, seed: int, mode: str, strength: float, text: str = "", on: bool = True) -> Any:
        return {"ui": {"got": [[source, seed, mode, strength, text, on]]}, "result": (seed,)}


class Pair(Toy):
    """A node with outputs of two types, for bypassing and for links of the wrong type."""

    RETURN_TYPES = ("STRING", "INT")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"text": ("STRING", {"default": "x"})},
            "optional": {"number": ("INT", {"forceInput": True})},
        }

    def work(self, text: str, number: int = 0) -> tuple[str, int]:
        CALLS.append("Pair")
        return (text, number)


class Choose(Toy):
    """A node that returns one of two lazy inputs."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        lazy = ("INT", {"forceInput": True, "lazy": True})
        return {"required": {"first": lazy, "second": lazy, "take_second": ("BOOLEAN", {"default": False})}}

    def check_lazy_status(self, take_second: bool, first: Any = None, second: Any = None) -> list[str]:
        name, value = ("second", second) if take_second else ("first", first)
        return [name] if value is None else []

    def work(self, take_second: bool, first: Any = None, second: Any = None) -> tuple[int]:
        CALLS.append("Choose")
        return (second if take_second else first,)


class Fails(Toy):
    RETURN_TYPES, OUTPUT_NODE = (), True

    def work(self) -> None:
        raise ValueError("the kettle is empty")


class Network:
    """Stand-in for a loaded network.

    Attributes:
        alive: Instances that are not freed yet.
    """

    alive: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.itself = self  # a cycle, so that only the garbage collector frees it
        Network.alive.add(self)


CLASSES: dict[str, type] = {each.__name__: each for each in (Number, Add, Show, Seeded, Pair, Choose, Fails)}


def toys(**more: type) -> Catalog:
    """Return a catalog of the toy nodes and `more`."""
    return Catalog({**CLASSES, **more}, {"Seeded": "Seeded Thing"})


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    """Return a node in the API format."""
    return {"class_type": class_type, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def editor_node(node_id: int | str, kind: str, **more: Any) -> dict[str, Any]:
    """Return a node in the editor's format."""
    return {"id": node_id, "type": kind, "mode": 0, "inputs": [], "outputs": [], "properties": {}, **more}


def socket(name: str, kind: Any, link: int | None, widget: bool = False) -> dict[str, Any]:
    """Return an input of a node in the editor's format."""
    return {"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if widget else {})}


def editor(nodes: list[dict[str, Any]], links: list[list[Any]], **more: Any) -> dict[str, Any]:
    """Return a document in the editor's format; links are [id, origin, slot, target, slot, type]."""
    return {"nodes": nodes, "links": links, "version": 0.4, **more}


def write_checkpoints(folder: Path) -> Mapping[str, str]:
    """Write tiny checkpoints of every part and return the settings that select them in the text-to-image example."""
    _write_parts(folder, stage_c="stage_c", stage_b="stage_b", stage_a="stage_a", text_c="text_c", text_b="text_b")
    return {
        "1.model": "text_c",
        "3.model": "text_b",
        "7.model": "stage_c",
        "9.model": "stage_b",
        "11.model": "stage_a",
    }


def write_tiny_v2(models: Path) -> None:
    """Write tiny checkpoints into a model folder, under the names of the published v2 ones."""
    _write_parts(
        models / "warp-ai",
        stage_c="wuerstchen-prior-model-interpolated",
        stage_b="wuerstchen/decoder",
        stage_a="wuerstchen/vqgan",
        text_c="wuerstchen-prior",
        text_b="wuerstchen",
    )
    save_image_encoder(tiny.image_encoder(), models / "warp-ai" / "EfficientNetEncoder")


def _write_parts(folder: Path, *, stage_c: str, stage_b: str, stage_a: str, text_c: str, text_b: str) -> None:
    """Write a tiny checkpoint of every part into `folder`, under the given names."""
    save_stage_c(tiny.stage_c(), folder / stage_c)
    save_stage_b(tiny.stage_b(tiny.STAGE_B_OWN_TEXT), folder / stage_b)
    save_stage_a(tiny.stage_a(), folder / stage_a)
    for name, width in ((text_c, tiny.STAGE_C.c_cond), (text_b, tiny.STAGE_B_OWN_TEXT.clip_embd)):
        tiny.save_text(folder / name, width=width, seed=width)
        (folder / name / "model_index.json").write_text("{}")  # marks the folder of a pipeline


def written(document: Any, name: str = "w.json") -> str:
    """Write a file with a document, and a picture beside it; return its name."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("in.png")
    text = document if isinstance(document, str) else json.dumps(document)
    Path(name).write_text(text, encoding="utf-8")
    return name
