"""Build a text encoder from the tensors of a file, of CLIP's text model or of a whole CLIP."""

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, WeightsMissingError
from ..networks.operations import Operations
from ..networks.text_model import ACTIVATIONS, TextModel, TextModelConfig
from .encoder import TextEncoder
from .tokens import LONGEST, Tokenizer

CLIP_TOKENIZER = Path(__file__).parent / "tokenizer"
"""Folder of CLIP's own tokenizer."""
_UNUSED = ("text_projection.", "position_ids", "logit_scale", "vision_model.", "visual_projection.")
"""Parts of the keys that a CLIP file may hold without an effect on the text model's hidden states."""
_LARGEST = {"vocab_size": 10_000_000, "num_hidden_layers": 1000, "max_position_embeddings": LONGEST}
"""Largest value of a field that is still plausible; 100,000 for others."""


def text_encoder_of(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, object] | None,
    tokenizer: Path | None,
    where: str,
    operations: Operations = nn,
) -> TextEncoder:
    """Build a text encoder that fits the tensors of a file.

    Args:
        tensors: Tensors by their names in the text model, from `text_tensors`.
        config: Content of its config.json; None to infer it from the tensors.
        tokenizer: Folder of its tokenizer; None for CLIP's own, which comes with this package.
        where: Name of the file, for messages.
        operations: Namespace that its linear layers come from.
    Returns:
        TextEncoder: With a network on the meta device, whose keys and shapes are those of the tensors.
    Raises:
        CheckpointError: A tensor is missing, unexpected or of another shape, or a file is damaged.
        WeightsMissingError: There is no tokenizer, and CLIP's own does not fit.
    """
    folder = tokenizer or CLIP_TOKENIZER
    try:
        shape = _inferred(tensors) if config is None else _read(config)
        _check_shape(shape, len(tensors))
        words = Tokenizer(folder)
    except Exception as error:  # the tokenizers library raises errors of many kinds
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error).strip()
        raise CheckpointError(
            f"{where} cannot be loaded: {reason.partition(chr(10))[0][:300]}. Expected a CLIP text model and its "
            f"tokenizer (in {folder}) as transformers saves them; download them again."
        ) from error
    with torch.device("meta"):
        model = TextModel(shape, operations)
        plain = TextModel(shape)
    _check_tensors(tensors, plain, where)
    if tokenizer is None and len(words) != shape.vocab_size:
        raise WeightsMissingError(
            f"{where} has no tokenizer beside it, and CLIP's own of {len(words)} tokens does not fit its "
            f"{shape.vocab_size}. Put tokenizer.json, or vocab.json and merges.txt, into its folder."
        )
    tokens = max(len(words), words.size)
    if tokens > shape.vocab_size:
        raise CheckpointError(
            f"{folder} has {tokens} tokens, the text encoder in {where} {shape.vocab_size}; expected the tokenizer "
            "that was made for it. Choose the two from one pipeline."
        )
    return TextEncoder(model, words)


def text_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the text model in a CLIP file, without those that do not change its hidden states.

    Args:
        state: Tensors by their names in the file; some programs put more before those of the text model.
    """
    kept = (key for key in state if not any(part in key for part in _UNUSED))
    return {key.rpartition("text_model.")[2]: state[key] for key in kept}


def _read(raw: Mapping[str, object]) -> TextModelConfig:
    """Return the config in a config.json of a text model, or of a whole CLIP. Raises ValueError."""
    inner = raw.get("text_config", raw)
    if not isinstance(inner, Mapping):
        raise ValueError("text_config is no object")
    given = cast("Mapping[str, object]", inner)
    values: dict[str, Any] = {}
    for field in fields(TextModelConfig):
        if field.name in given:
            values[field.name] = _value(field.name, given[field.name], cast("type[object]", type(field.default)))
    return TextModelConfig(**values)


def _check_shape(shape: TextModelConfig, tensors: int) -> None:
    """Check that a text model can be of a shape, and the file of that many tensors of it. Raises ValueError."""
    for name, largest in ((field.name, _LARGEST.get(field.name, 100_000)) for field in fields(shape)):
        value = getattr(shape, name)
        if isinstance(value, int) and not 0 < value <= largest:
            raise ValueError(f"{name} is {value}; expected a whole number up to {largest}")
    if shape.max_position_embeddings < 3:
        raise ValueError(f"max_position_embeddings is {shape.max_position_embeddings}; expected at least 3")
    if not 0 < shape.layer_norm_eps <= 1:
        raise ValueError(f"layer_norm_eps is {shape.layer_norm_eps}; expected a small number, such as 1e-5")
    if shape.hidden_act not in ACTIVATIONS:
        raise ValueError(f"hidden_act is {shape.hidden_act[:100]!r}; expected {' or '.join(ACTIVATIONS)}")
    if shape.hidden_size % shape.num_attention_heads:
        raise ValueError(f"{shape.num_attention_heads} heads do not divide the hidden_size of {shape.hidden_size}")
    if shape.num_hidden_layers > tensors:
        raise ValueError(f"the config describes {shape.num_hidden_layers} layers, and there are {tensors} tensors")


def _value(name: str, value: object, kind: Callable[..., Any]) -> object:
    if kind is str:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {reprlib.repr(value)}; expected a number")
    if kind is float:
        return float(value)
    largest = _LARGEST.get(name, 100_000)
    if not 0 < value <= largest or value != int(value):
        raise ValueError(f"{name} is {reprlib.repr(value)}; expected a whole number up to {largest}")
    return int(value)


def _inferred(tensors: Mapping[str, Tensor]) -> TextModelConfig:
    """Infer the config of CLIP H or bigG, whose heads are 64 wide, from the tensors. Raises KeyError."""
    vocabulary, width = tensors["embeddings.token_embedding.weight"].shape
    layers = {match[1] for key in tensors if (match := re.match(r"encoder\.layers\.(\d+)\.", key))}
    return TextModelConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(tensors["encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=len(tensors["embeddings.position_embedding.weight"]),
        hidden_act="gelu",
    )


def _check_tensors(tensors: Mapping[str, Tensor], model: nn.Module, where: str) -> None:
    """Raise CheckpointError at the first tensor that is missing, unexpected or of another shape."""
    expected = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: list(tensor.shape) for key, tensor in tensors.items()}
    for key in sorted(expected.keys() | found.keys()):
        if found.get(key) != expected.get(key):
            raise CheckpointError(
                f"{where}: {key!r} {f'has shape {found[key]}' if key in found else 'is missing'}; expected "
                f"{f'shape {expected[key]}' if key in expected else 'no such tensor'}, as a CLIP text model of its "
                "config has. Download it again, or choose another."
            )
