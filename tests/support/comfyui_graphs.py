"""Small prompts in the API format for the tests on a real ComfyUI."""

from collections.abc import Mapping
from itertools import count
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from support.comfyui_server import Prompt, Run, Server
from wuerstchen_core import StageC, load_stage_c, load_text_encoder
from wuerstchen_core.sampling import NoiseSource, sample, with_guidance
from wuerstchen_nodes.headless import load_workflow, prepare

TEXT = "a large red heart on a white background"
SEED = 11
NAMES = count()
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


def stage_c_graph(model: str = "cocktail") -> tuple[Prompt, str, str, str, str]:
    """A graph with Stage C as a MODEL; the ids of the model, both conditionings and the empty latents."""
    prompt: Prompt = {}
    prompt["1"] = {"class_type": "WuerstchenLoadStageC", "inputs": {"model": model, "dtype": "default"}}
    native = add(prompt, "WuerstchenStageCToModel", stage_c=["1", 0])
    encoder = add(prompt, "WuerstchenLoadTextEncoder", model="cocktail", for_stage="C")
    positive = add(prompt, "WuerstchenTextEncode", text_encoder=[encoder, 0], text=TEXT)
    negative = add(prompt, "WuerstchenTextEncode", text_encoder=[encoder, 0], text="")
    empty = add(prompt, "WuerstchenEmptyLatent", width=256, height=256, batch_size=1)
    return prompt, native, positive, negative, empty


def ksampler(prompt: Prompt, model: str, positive: str, negative: str, latent: list, **changes) -> str:
    settings = {"seed": SEED, "steps": 8, "cfg": 4.0, "sampler_name": "ddpm", "scheduler": "simple", "denoise": 1.0}
    links = {"model": [model, 0], "positive": [positive, 0], "negative": [negative, 0], "latent_image": latent}
    return add(prompt, "KSampler", **links, **{**settings, **changes})


def saved(server: Server, prompt: Prompt, node: str) -> Tensor:
    """The latent that a node gives."""
    # A name of its own, or the server would take a second saving of the same for done.
    save = add(prompt, "SaveLatent", samples=[node, 0], filename_prefix=f"latents/{next(NAMES)}")
    run = ran(server, prompt)
    (file,) = run.outputs[save]["latents"]
    del prompt[save]
    return load_file(server.folder / "output" / file["subfolder"] / file["filename"])["latent_tensor"]


def ran(server: Server, prompt: Prompt) -> Run:
    run = server.run(prompt)
    assert run.status == "success", run.error
    return run


def apart(one: Tensor, other: Tensor) -> float:
    """Largest difference, in terms of the largest value."""
    return float((one - other).abs().max() / other.abs().max())


class TheirNoise(NoiseSource):
    """Noise as ComfyUI draws it: the sampler's own generator starts from the seed again."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__([SEED], shape, torch.device("cpu"))


def stage_c_by_our_own(ratios: list[float], cfg: float = 4.0, network: StageC | None = None) -> Tensor:
    """Latents that ComfyUI's KSampler with ddpm should give, of cocktail where no network is given."""
    network, encoder = network or load_stage_c("cocktail"), load_text_encoder("cocktail", for_stage="C")
    start, noise = TheirNoise((16, 6, 6)).draw(), TheirNoise((16, 6, 6))
    denoise = with_guidance(network, (encoder.encode([TEXT]),), (encoder.encode([""]),), cfg)
    return sample(denoise, start, ratios, noise) * 42 - 1
