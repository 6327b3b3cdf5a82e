"""Load textual inversions: trained vectors that stand for a word in prompts."""

from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError, WeightsMissingError
from ..text.chunks import Embedding
from .layouts import existing
from .reading import read_tensors

_OUTPUT = "_out"
"""End of the names of vectors that replace the encoder's results, as OneTrainer writes them."""
_MOST_TOKENS = 1000


def load_embedding(path: str | Path) -> Embedding:
    """Load a textual inversion: a file of one or more tensors [tokens, width], one for each text encoder.

    OneTrainer writes `clip_g` for Stage C's text encoder of Würstchen v2 (and `clip_g_out`); vectors are told apart by
    their width, so other names do as well, such as the `emp_params` of CLIP H, which Stage B's text encoder is.

    Args:
        path: A .safetensors, .pt or .bin file.
    Returns:
        Embedding: For `TextEncoder.encode(..., weights=True, embeddings={name: ...})`.
    Raises:
        WeightsMissingError: There is no such file.
        CheckpointError: It is damaged, or holds something else.
    """
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    there = existing(path)
    if there is None:
        raise WeightsMissingError(f"{str(path)[:300]!r} does not exist; expected the file of an embedding.")
    for name, tensor in read_tensors(there).items():
        vectors = tensor[None] if tensor.ndim == 1 else tensor
        if vectors.is_floating_point() and not bool(vectors.float().isfinite().all()):
            raise CheckpointError(
                f"{path}: {name!r} holds values that are not finite numbers, so the embedding is broken. Train it "
                "again at a lower learning rate, or choose an earlier one."
            )
        if (
            vectors.ndim != 2
            or not vectors.is_floating_point()
            or not 1 <= len(vectors) <= _MOST_TOKENS
            or not vectors.numel()
        ):
            raise CheckpointError(
                f"{path}: {name!r} is of shape {list(tensor.shape)} and {tensor.dtype}; expected the vectors of an "
                "embedding, [tokens, width] of floating-point numbers, such as clip_g of OneTrainer."
            )
        (outputs if name.endswith(_OUTPUT) else inputs)[vectors.shape[1]] = vectors.float()
    if not inputs and not outputs:
        raise CheckpointError(f"{path} holds no tensor; expected the vectors of an embedding, [tokens, width].")
    return Embedding(inputs, outputs)
