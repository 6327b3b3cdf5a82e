"""Build a text encoder from the tensors of a file, of CLIP's text model or of a whole CLIP.

transformers is imported on first use, because it takes longer to import than the rest of the package.
"""

import logging
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, WeightsMissingError
from .encoder import TextEncoder

CLIP_TOKENIZER = Path(__file__).parent / "tokenizer"
"""Folder of CLIP's own tokenizer."""
_UNUSED = ("text_projection.", "position_ids", "logit_scale", "vision_model.", "visual_projection.")
"""Parts of the keys that a CLIP file may hold without an effect on the text model's hidden states."""


def text_encoder_of(
    state: Mapping[str, Tensor], config: Mapping[str, object] | None, tokenizer: Path | None, where: str
) -> TextEncoder:
    """Build a text encoder from the tensors of a file.

    Args:
        state: Tensors by their names in the file, of a CLIP text model or of a whole CLIP.
        config: Content of its config.json; None to infer it from the tensors.
        tokenizer: Folder of its tokenizer; None for CLIP's own, which comes with this package.
        where: Name of the file, for messages.
    Returns:
        TextEncoder: In eval mode, without gradients, with the tensors as they are.
    Raises:
        CheckpointError: A tensor is missing, unexpected or of another shape, or a file is damaged.
        WeightsMissingError: There is no tokenizer, and CLIP's own does not fit.
    """
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    tensors = _text_model(state)
    folder = tokenizer or CLIP_TOKENIZER
    try:
        given = _inferred(tensors) if config is None else config.get("text_config", config)
        # transformers types these functions in part only.
        settings = cast(Any, CLIPTextConfig)(**{**cast(dict[str, Any], given), "attn_implementation": "sdpa"})
        with _quiet(), torch.device("meta"):
            model = cast(Any, CLIPTextModel)(settings)
        with _quiet():
            words = cast(Any, CLIPTokenizer).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and its libraries raise errors of many kinds
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error).strip()
        raise CheckpointError(
            f"{where} cannot be loaded: {reason.partition(chr(10))[0]}. Expected a CLIP text model and its "
            f"tokenizer (in {folder}) as transformers saves them; download them again."
        ) from error
    _check_tensors(tensors, model, where)
    vocabulary = model.config.vocab_size
    if tokenizer is None and len(words) != vocabulary:
        raise WeightsMissingError(
            f"{where} has no tokenizer beside it, and CLIP's own of {len(words)} tokens does not fit its "
            f"{vocabulary}. Put tokenizer.json, or vocab.json and merges.txt, into its folder."
        )
    if len(words) > vocabulary:
        raise CheckpointError(
            f"{tokenizer} has {len(words)} tokens, the text encoder in {where} {vocabulary}; expected the "
            "tokenizer that was made for it. Choose the two from one pipeline."
        )
    model.load_state_dict({key: tensors[_plain(key)] for key in model.state_dict()}, strict=True, assign=True)
    embeddings = getattr(model, "text_model", model).embeddings
    embeddings.position_ids = torch.arange(model.config.max_position_embeddings)[None]  # no file holds it
    return TextEncoder(model, words).eval().requires_grad_(False)


def _plain(key: str) -> str:
    """Return the name of a tensor inside the text model: some programs put more before it."""
    return key.rpartition("text_model.")[2]


def _text_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the text model, without the parts of a CLIP that do not change its hidden states."""
    return {_plain(key): tensor for key, tensor in state.items() if not any(part in key for part in _UNUSED)}


def _inferred(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Infer the config of CLIP H or bigG, whose heads are 64 wide, from the tensors. Raises KeyError."""
    vocabulary, width = tensors["embeddings.token_embedding.weight"].shape
    layers = {match[1] for key in tensors if (match := re.match(r"encoder\.layers\.(\d+)\.", key))}
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": len(tensors["encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": len(tensors["embeddings.position_embedding.weight"]),
        "hidden_act": "gelu",
    }


def _check_tensors(tensors: Mapping[str, Tensor], model: nn.Module, where: str) -> None:
    """Raise CheckpointError at the first tensor that is missing, unexpected or of another shape."""
    expected = {_plain(key): list(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: list(tensor.shape) for key, tensor in tensors.items()}
    for key in sorted(expected.keys() | found.keys()):
        if found.get(key) != expected.get(key):
            raise CheckpointError(
                f"{where}: {key!r} {f'has shape {found[key]}' if key in found else 'is missing'}; expected "
                f"{f'shape {expected[key]}' if key in expected else 'no such tensor'}, as a CLIP text model of its "
                "config has. Download it again, or choose another."
            )


@contextmanager
def _quiet() -> Generator[None]:
    """Silence the progress bars and log of transformers. Errors are still raised."""
    from transformers.utils import logging as its_logging

    verbosity, bars = its_logging.get_verbosity(), its_logging.is_progress_bar_enabled()
    its_logging.set_verbosity(logging.CRITICAL)
    its_logging.disable_progress_bar()
    try:
        yield
    finally:
        its_logging.set_verbosity(verbosity)
        if bars:
            its_logging.enable_progress_bar()
