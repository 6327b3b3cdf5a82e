"""Tiny random networks and text encoders: in this project's form, in diffusers', and with the authors' keys."""

import importlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wuerstchen_core import StageA, StageAConfig, StageB, StageBConfig, StageC, StageCConfig
from wuerstchen_core.checkpoints.saving import save_image_encoder, save_stage_a, save_stage_b, save_stage_c
from wuerstchen_core.networks.cocktail_encoder import CocktailEncoder, CocktailEncoderConfig

STAGE_C = StageCConfig(c_in=16, c=64, c_cond=32, c_r=16, depth=2, nhead=1)
STAGE_B = StageBConfig(
    c_r=16,
    c_cond=24,
    c_hidden=(16, 64, 128),
    nhead=(-1, 1, 2),
    blocks=(1, 2, 1),
    level_config=("CT", "CTA", "CTA"),
    inject_effnet=(False, True, True),
    clip_embd=32,
)
STAGE_B_OWN_TEXT = replace(STAGE_B, c_hidden=(8, 16, 32), nhead=(-1, 1, 2), blocks=(1, 1, 1), clip_embd=20)
"""Smaller Stage B whose text width differs from Stage C's, so that a text of the wrong stage fails."""
STAGE_A = StageAConfig(bottleneck_blocks=2, embed_dim=16, num_vq_embeddings=32)
MAX_TOKENS = 77
"""Tokens that the tiny text encoders read."""


def randomise(network: Any, seed: int, scale: float = 0.5) -> Any:
    """Fill a network with random weights, so that every part contributes and activations stay near 1.

    Args:
        network: Network to fill, in place.
        seed: Seed of the weights.
        scale: Standard deviation of a weight, times the square root of its layer's number of inputs.
    Returns:
        The network, in eval mode and without gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        inputs = max(1, weight[0].numel()) if weight.ndim > 1 else 16
        weight.data = torch.randn(weight.shape, generator=generator) * scale / inputs**0.5
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        elif name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
    return network.eval().requires_grad_(False)


def stage_c(config: StageCConfig = STAGE_C, seed: int = 0) -> StageC:
    """Build a random Stage C. Its b is near -1: a divisor |1 - b| near 0 would amplify rounding errors."""
    network = randomise(StageC(config), seed)
    network.out[1].weight[config.c_in :] *= 0.1
    network.out[1].bias[config.c_in :] = -1
    return network


def stage_b(config: StageBConfig = STAGE_B, seed: int = 0) -> StageB:
    """Build a random Stage B."""
    network = randomise(StageB(config), seed)
    network.clf[1].bias[len(network.clf[1].bias) // 2 :] = 2  # b near 0.9
    return network


def stage_a(config: StageAConfig = STAGE_A, seed: int = 0) -> StageA:
    """Build a random Stage A."""
    return randomise(StageA(config), seed)


def image_encoder(seed: int = 0) -> CocktailEncoder:
    """Build a random image encoder of cocktail's kind: the published one has no small form."""
    encoder = CocktailEncoder(CocktailEncoderConfig(widths=(4, 8, 8, 8), blocks=1))
    return randomise(encoder, seed).eval().requires_grad_(False)


def save_stages(folder: Path) -> None:
    """Save a checkpoint of each stage, in the folders stage_c, stage_b and stage_a."""
    save_stage_c(stage_c(), folder / "stage_c")
    save_stage_b(stage_b(), folder / "stage_b")
    save_stage_a(stage_a(), folder / "stage_a")


def save_pipelines(folder: Path) -> None:
    """Save tiny networks in the layout of the published ones: wuerstchen-prior, wuerstchen and EfficientNetEncoder."""
    save_stage_c(stage_c(), folder / "wuerstchen-prior" / "prior")
    save_stage_b(stage_b(), folder / "wuerstchen" / "decoder")
    save_stage_a(stage_a(), folder / "wuerstchen" / "vqgan")
    save_text(folder / "wuerstchen-prior", width=32, seed=1)
    save_text(folder / "wuerstchen", width=32, seed=2)
    save_image_encoder(image_encoder(), folder / "EfficientNetEncoder")


def diffusers_class(kind: type) -> Any:
    """Return diffusers' class for StageA, StageB or StageC."""
    names = {
        StageA: ("modeling_paella_vq_model", "PaellaVQModel"),
        StageB: ("modeling_wuerstchen_diffnext", "WuerstchenDiffNeXt"),
        StageC: ("modeling_wuerstchen_prior", "WuerstchenPrior"),
    }
    module, class_name = names[kind]
    return getattr(diffusers_module(module), class_name)


def diffusers_form(kind: type, config: Any) -> Any:
    """Build diffusers' network for a class and config of this project, with fresh weights."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    return diffusers_class(kind)(**values)


def diffusers_twin(network: nn.Module) -> Any:
    """Build the same network in diffusers, with the same weights under the same keys."""
    twin = diffusers_form(type(network), network.config)
    twin.load_state_dict(network.state_dict(), strict=True)
    return twin.eval().requires_grad_(False)


def diffusers() -> Any:
    """Return diffusers as Any: it loads its names on first use, and type checkers miss them."""
    return importlib.import_module("diffusers")


def diffusers_module(name: str) -> Any:
    """Import a module of diffusers' Würstchen, whose package differs between releases."""
    package = diffusers().WuerstchenPriorPipeline.__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


def in_authors_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the authors' keys: packed attention, and the codebook with its running sums."""
    result: dict[str, Tensor] = {}
    for key, tensor in state.items():
        projection = re.fullmatch(r"(.+\.attention)\.to_([qkv])\.(weight|bias)", key)
        if projection:
            block, which, kind = projection.groups()
            if which == "q":
                packed = torch.cat([state[f"{block}.to_{letter}.{kind}"] for letter in "qkv"])
                result[f"{block}.attn.in_proj_{kind}"] = packed
        elif ".to_out.0." in key:
            result[key.replace(".to_out.0.", ".attn.out_proj.")] = tensor
        elif key == "vquantizer.embedding.weight":
            result["vquantizer.codebook.weight"] = tensor
            result["vquantizer.ema_element_count"] = torch.ones(len(tensor))
            result["vquantizer.ema_weight_sum"] = tensor.clone()
        else:
            result[key] = tensor
    return result


def save_text(folder: Path, width: int = 32, seed: int = 0, published_keys: bool = True) -> None:
    """Save a random CLIP text model and a tokenizer of 514 tokens.

    The tokens are every byte, every byte as the last one of a word, and two special ones.

    Args:
        folder: Folder for text_encoder/ and tokenizer/, created with its parents.
        width: Width of the embeddings; even.
        seed: Seed of the weights.
        published_keys: Whether keys begin with text_model, as in the published files.
    """
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (tokenizer / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))

    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
        pad_token_id=len(tokens) - 1,
    )
    model = CLIPTextModel(config).eval()
    model.save_pretrained(folder / "text_encoder")
    if published_keys:  # releases of transformers differ in the keys that they write
        file = folder / "text_encoder" / "model.safetensors"
        state = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(file).items()}
        save_file(state, file, metadata={"format": "pt"})


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Return the largest difference, relative to the largest value of the reference."""
    return float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())
