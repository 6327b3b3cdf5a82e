"""Tokens of a prompt with weights, in chunks of the length that a text encoder takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .prompts import Part, found_name
from .tokens import Tokenizer

WHOLE = 8
"""Parts of fewer tokens are not split between two chunks."""


@dataclass(frozen=True)
class Embedding:
    """Vectors of a textual inversion, which stand for a word.

    Attributes:
        inputs: {width: [tokens, width]}, vectors in place of those of the tokens.
        outputs: {width: [tokens, width]}, vectors in place of the encoder's results for these tokens.
    """

    inputs: Mapping[int, Tensor]
    outputs: Mapping[int, Tensor]

    def fits(self, width: int) -> bool:
        """Return whether it has vectors for a text encoder of that width."""
        return width in self.inputs or width in self.outputs

    def tokens(self, width: int, weight: float, pad: int) -> "list[Token]":
        """Return its tokens for a text encoder of that width, all with the same weight."""
        given, results = self.inputs.get(width), self.outputs.get(width)
        count = len(given) if given is not None else 0 if results is None else len(results)
        return [
            Token(
                pad,
                weight,
                results.new_zeros(width) if given is None and results is not None else _row(given, index),
                _row(results, index),
            )
            for index in range(count)
        ]


class Token(NamedTuple):
    """Token of a prompt.

    Attributes:
        id: Its number in the vocabulary.
        weight: Its weight; 1 is none.
        vector: [width], vector in place of the vocabulary's; None for that.
        result: [width], vector in place of the encoder's result; None for that.
    """

    id: int
    weight: float = 1.0
    vector: Tensor | None = None
    result: Tensor | None = None


def chunks_of(
    parts: Iterable[Part], tokenizer: Tokenizer, size: int, width: int, embeddings: Mapping[str, Embedding]
) -> list[list[Token]]:
    """Return the tokens of a prompt in chunks of at most `size`, without those at the start and the end.

    A part of fewer than `WHOLE` tokens that does not fit into a chunk begins the next one, as in ComfyUI.

    Args:
        parts: Parts of the prompt.
        tokenizer: Tokenizer of the text encoder.
        size: Tokens of a chunk.
        width: Length of a token's vector.
        embeddings: Embeddings by name. Those that are not there, or have no vectors of that width, are left out.
    """
    chunks: list[list[Token]] = [[]]
    for part in parts:
        for group in _groups(part, tokenizer, width, embeddings):
            rest = group
            while rest:
                room = size - len(chunks[-1])
                if len(rest) <= room:
                    chunks[-1] += rest
                    break
                if len(group) >= WHOLE or len(group) > size:
                    chunks[-1] += rest[:room]
                    rest = rest[room:]
                chunks.append([])
    return chunks


def _groups(part: Part, tokenizer: Tokenizer, width: int, embeddings: Mapping[str, Embedding]) -> Iterable[list[Token]]:
    """Yield the tokens of a part; those of an embedding apart from the punctuation after its name."""
    text = part.text
    if part.embedding:
        name, text = found_name(part.embedding, embeddings.__contains__)
        if name is not None:
            yield embeddings[name].tokens(width, part.weight, tokenizer.pad)
    yield [Token(each, part.weight) for each in tokenizer.encode(text)]


def _row(table: Tensor | None, index: int) -> Tensor | None:
    return None if table is None or index >= len(table) else table[index]
