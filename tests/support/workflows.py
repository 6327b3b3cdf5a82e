"""Toy nodes, builders of small workflows, and tiny random checkpoints, for the tests of headless execution."""

import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from support.hosts import STAGE_B_TEXT, STAGE_C_TEXT, tiny_stage_a, tiny_stage_b, tiny_stage_c
from wuerstchen_core.checkpoints.saving import save_stage_a, save_stage_b, save_stage_c
from wuerstchen_nodes.headless.workflow.catalog import Catalog

QUICK_RUN = ["8.steps=2", "10.steps=1", "8.width=128", "8.height=128"]
"""Settings with which the text-to-image example is drawn fast."""

CALLS: list[str] = []
"""The classes of the toy nodes that ran, in order; a fixture empties it."""


class Toy:
    """What the toy nodes share: a FUNCTION named work, no inputs, one INT."""

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
    """Widgets of every kind, in the order that matters to `widgets_values`."""

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
    """A source of two types, for bypassing and for links of the wrong type."""

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
    """Takes one of two lazy inputs."""

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
    """Stands for a loaded stage; `alive` holds those that were not let go."""

    alive: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.itself = self  # a cycle, so that only the collector frees it
        Network.alive.add(self)


CLASSES: dict[str, type] = {each.__name__: each for each in (Number, Add, Show, Seeded, Pair, Choose, Fails)}


def toys(**more: type) -> Catalog:
    """A catalog of the toy nodes and `more`."""
    return Catalog({**CLASSES, **more}, {"Seeded": "Seeded Thing"})


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    """A node of the API format."""
    return {"class_type": class_type, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def editor_node(node_id: int, kind: str, **more: Any) -> dict[str, Any]:
    """A node of the editor's format."""
    return {"id": node_id, "type": kind, "mode": 0, "inputs": [], "outputs": [], "properties": {}, **more}


def socket(name: str, kind: Any, link: int | None, widget: bool = False) -> dict[str, Any]:
    """An input of a node of the editor's format."""
    return {"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if widget else {})}


def editor(nodes: list[dict[str, Any]], links: list[list[Any]], **more: Any) -> dict[str, Any]:
    """A document of the editor's format; links are [id, origin, slot, target, slot, type]."""
    return {"nodes": nodes, "links": links, "version": 0.4, **more}


def write_checkpoints(folder: Path) -> Mapping[str, str]:
    """Write tiny random checkpoints of every part; gives the settings that put them into the text-to-image example."""
    save_stage_c(tiny_stage_c(), folder / "stage_c")
    save_stage_b(tiny_stage_b(), folder / "stage_b")
    save_stage_a(tiny_stage_a(), folder / "stage_a")
    _write_text_encoder(folder / "text_c", STAGE_C_TEXT)
    _write_text_encoder(folder / "text_b", STAGE_B_TEXT)
    return {
        "1.model": "text_c",
        "3.model": "text_b",
        "7.model": "stage_c",
        "9.model": "stage_b",
        "11.model": "stage_a",
    }


def write_tiny_v2(models: Path) -> None:
    """Tiny random checkpoints under the names of the published ones, where a model folder holds them."""
    save_stage_c(tiny_stage_c(), models / "warp-ai/wuerstchen-prior-model-interpolated")
    _write_text_encoder(models / "warp-ai/wuerstchen-prior", STAGE_C_TEXT)
    save_stage_b(tiny_stage_b(), models / "warp-ai/wuerstchen/decoder")
    save_stage_a(tiny_stage_a(), models / "warp-ai/wuerstchen/vqgan")
    _write_text_encoder(models / "warp-ai/wuerstchen", STAGE_B_TEXT)


def _write_text_encoder(folder: Path, dim: int) -> None:
    from transformers import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    letters = [chr(each) for each in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    torch.manual_seed(dim)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=dim,
        intermediate_size=dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text("{}")  # the folder is a pipeline's
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    settings = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
