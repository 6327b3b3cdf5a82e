"""Key styles of LoRA files, as tables: which layer a key belongs to, and which part of its change it is.

A key is a prefix, the name of a layer and a suffix, such as `prior.` `blocks.2.attention.to_q` `.lora_A.weight`. Each
of the three has its table below, so every prefix goes with every suffix. Layers may have underscores for dots.
"""

import re
from dataclasses import dataclass
from typing import Literal

Part = Literal["stage_c", "text_encoder"]
"""Network that a change belongs to."""
Role = Literal["down", "up", "alpha"]
"""Part of a low-rank change: W + up @ down * alpha / rank."""

PREFIXES: tuple[tuple[str, Part], ...] = (
    # diffusers and OneTrainer name the parts of a pipeline
    (r"prior\.", "stage_c"),
    (r"unet\.", "stage_c"),
    (r"text_encoder\.", "text_encoder"),
    (r"clip_g\.", "text_encoder"),
    # kohya, OneTrainer and LyCORIS, with underscores
    (r"lora_(?:prior_)?unet_", "stage_c"),
    (r"lora_prior_", "stage_c"),
    (r"lycoris_", "stage_c"),
    (r"lora_(?:prior_)?te1?_", "text_encoder"),
    # ComfyUI's name of the network inside a MODEL
    (r"(?:model\.)?diffusion_model\.", "stage_c"),
    (r"", "stage_c"),
    (r"", "text_encoder"),
)
"""(Pattern of a prefix, part). peft's own `base_model.model.` may stand before or after it."""

_BLOCK = r"blocks[._](\d+)[._]"
_LAYER = r"(?:text_model[._])?encoder[._]layers[._](\d+)[._]"
LAYERS: tuple[tuple[Part, str, tuple[str, ...]], ...] = (
    ("stage_c", r"projection", ("projection",)),
    ("stage_c", r"cond_mapper[._]([02])", (r"cond_mapper.\1",)),
    ("stage_c", _BLOCK + r"depthwise", (r"blocks.\1.depthwise",)),
    ("stage_c", _BLOCK + r"channelwise[._]([04])", (r"blocks.\1.channelwise.\2",)),
    ("stage_c", _BLOCK + r"mapper", (r"blocks.\1.mapper",)),
    ("stage_c", _BLOCK + r"kv_mapper[._]1", (r"blocks.\1.kv_mapper.1",)),
    ("stage_c", _BLOCK + r"attention[._](?:processor[._]|attn[._])?to_([qkv])", (r"blocks.\1.attention.to_\2",)),
    ("stage_c", _BLOCK + r"attention[._](?:processor[._])?to_out(?:[._]0)?", (r"blocks.\1.attention.to_out.0",)),
    (
        "stage_c",
        _BLOCK + r"attention[._]attn[._]in_proj(?:_weight)?",
        (r"blocks.\1.attention.to_q", r"blocks.\1.attention.to_k", r"blocks.\1.attention.to_v"),
    ),
    ("stage_c", _BLOCK + r"attention[._]attn[._]in_proj[._]0", (r"blocks.\1.attention.to_q",)),
    ("stage_c", _BLOCK + r"attention[._]attn[._]in_proj[._]1", (r"blocks.\1.attention.to_k",)),
    ("stage_c", _BLOCK + r"attention[._]attn[._]in_proj[._]2", (r"blocks.\1.attention.to_v",)),
    ("stage_c", _BLOCK + r"attention[._]attn[._]out_proj", (r"blocks.\1.attention.to_out.0",)),
    ("stage_c", r"out[._]1", ("out.1",)),
    ("text_encoder", _LAYER + r"self_attn[._](q|k|v|out)_proj", (r"encoder.layers.\1.self_attn.\2_proj",)),
    ("text_encoder", _LAYER + r"self_attn[._]to_(q|k|v|out)", (r"encoder.layers.\1.self_attn.\2_proj",)),
    ("text_encoder", _LAYER + r"mlp[._]fc([12])", (r"encoder.layers.\1.mlp.fc\2",)),
)
"""(Part, pattern of a layer's name in files, published names). With several names, `up` is split evenly among them."""

SUFFIXES: tuple[tuple[str, Role], ...] = (
    (r"\.lora_A(?:\.\w+)?\.weight", "down"),
    (r"\.lora_B(?:\.\w+)?\.weight", "up"),
    (r"\.lora_down\.weight", "down"),
    (r"\.lora_up\.weight", "up"),
    (r"[._]lora(?:_linear_layer)?\.down\.weight", "down"),
    (r"[._]lora(?:_linear_layer)?\.up\.weight", "up"),
    (r"(?:[._]lora)?\.alpha", "alpha"),
)
"""(Pattern of a suffix, part of the change)."""

OTHER_SUFFIXES: tuple[tuple[str, str], ...] = (
    (r"\.(hada_w[12]_[ab]|hada_t[12])", "LoHa"),
    (r"\.(lokr_w[12](?:_[ab])?|lokr_t[12])", "LoKr"),
    (r"\.(dora_scale|lora_magnitude_vector(?:\.\w+)?(?:\.weight)?)", "DoRA"),
    (r"\.(lora_mid\.weight)", "LoCon with a core tensor"),
    (r"\.(diff|diff_b|set_weight)", "difference of whole weights"),
    (r"\.(lora_[AB](?:\.\w+)?\.bias)", "LoRA with biases"),
    (r"\.(oft_\w+|boft_\w+|a1\.weight|b1\.weight)", "OFT, BOFT or GLoRA"),
)
"""(Pattern of a suffix, method) of changes that are no low-rank sums, listed so that an error can name them."""

EMBEDDING = re.compile(r"bundle_emb\.(.+)\.\w+")
"""Key of a textual inversion, which OneTrainer puts into the file of a LoRA; the first group is its name."""

_PEFT = r"(?:base_model\.model\.)?"
_PREFIXES: tuple[tuple[re.Pattern[str], Part], ...] = tuple(
    (re.compile(f"{_PEFT}{prefix}{_PEFT}"), part) for prefix, part in PREFIXES
)
_LAYERS = tuple((part, re.compile(pattern), names) for part, pattern, names in LAYERS)
_SUFFIXES: tuple[tuple[re.Pattern[str], Role], ...] = tuple(
    (re.compile(pattern + r"\Z"), role) for pattern, role in SUFFIXES
)
_OTHERS = tuple((re.compile(pattern + r"\Z"), method) for pattern, method in OTHER_SUFFIXES)


@dataclass(frozen=True)
class LoraKey:
    """Meaning of a key of a LoRA file.

    Attributes:
        part: Network that it belongs to.
        layers: Published names of its layers, without ".weight"; several for a packed one.
        role: Part of the change; None for a method that is not a sum of low rank.
        method: Name of that method; "LoRA" otherwise.
        suffix: End of the key that belongs to the method, without its dot.
    """

    part: Part
    layers: tuple[str, ...]
    role: Role | None
    method: str
    suffix: str


def read_key(key: str) -> LoraKey | None:
    """Return what a key of a LoRA file means; None where it fits no style."""
    for pattern, role in _SUFFIXES:
        if (end := pattern.search(key)) and (found := _layer_of(key[: end.start()])):
            return LoraKey(*found, role, "LoRA", end[0].lstrip("._"))
    for pattern, method in _OTHERS:
        if (end := pattern.search(key)) and (found := _layer_of(key[: end.start()])):
            return LoraKey(*found, None, method, end[1])
    return None


def _layer_of(name: str) -> tuple[Part, tuple[str, ...]] | None:
    """Return the part and the published layers of a key without its suffix."""
    for prefix, part in _PREFIXES:
        start = prefix.match(name)
        if start is None:
            continue
        for owner, pattern, names in _LAYERS:
            if owner == part and (match := pattern.fullmatch(name, start.end())):
                return part, tuple(match.expand(each) for each in names)
    return None
