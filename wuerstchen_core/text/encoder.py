"""Text encoders: a text prompt becomes one vector a token. Stage C uses CLIP bigG, Stage B uses CLIP H.

`building` makes one from a file.
"""

import logging
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.finite import finite
from ..networks.text_model import TextModel
from .chunks import Embedding, Token, chunks_of
from .prompts import Part, check_prompt, found_name, weighted_parts
from .tokens import Tokenizer
from .words import first_of

logger = logging.getLogger("wuerstchen_core.text")

_UNKNOWN_SHOWN, _KNOWN_SHOWN = 20, 300
"""Names in a remark."""
_WORD = re.compile(r"[^\W\d_]+")


class TextEncoder(nn.Module):
    """A CLIP text model with its tokenizer.

    Args:
        model: The text model.
        tokenizer: Tokenizer that was made for it.
    Attributes:
        dim (int): Length of a token's vector.
        max_tokens (int): Tokens of a text prompt, or of a chunk of a long one, 77 as published.
        for_stage (str | None): Stage that it was loaded for, "C" or "B"; None if that was not said.
        added_words (tuple[str, ...]): Words that LoRAs have added to `words`.
        made_from (tuple | None): Text encoder without LoRAs and the LoRAs that were added to it; None without any.
    """

    for_stage: str | None = None
    added_words: tuple[str, ...] = ()
    made_from: "tuple[TextEncoder, Any] | None" = None

    def __init__(self, model: TextModel, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.dim = model.config.hidden_size
        self.max_tokens = min(tokenizer.max_tokens, model.config.max_position_embeddings)

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], *, weights: bool = False, embeddings: Mapping[str, Embedding] | None = None
    ) -> Tensor:
        """Return the last hidden state of each text prompt.

        The log warns of an end that does not fit and is cut, and of words that the model was not trained on.

        With `weights`, (words:1.3) and the like weigh more or less (see `prompts.weighted_parts`): z becomes
        (z - z_empty) * weight + z_empty, where z_empty is the result for an empty prompt, as in ComfyUI. Prompts of any
        length are encoded in chunks of `max_tokens`, joined along the tokens; shorter prompts are followed by empty
        ones. A short prompt without weights gives the same as without `weights`.

        Args:
            prompts: One or more text prompts; an empty one is the unconditional prompt.
            weights: Whether weights, long prompts and embeddings are read. Otherwise a prompt is taken literally, and
                its end is cut.
            embeddings: Textual inversions by the names that prompts call them by, as embedding:name.
        Returns:
            Tensor: [batch, max_tokens * chunks, dim], float32, on the CPU. Without `weights` there is one chunk.
        Raises:
            InputError: `prompts` is empty or holds something else than strings, or one is too long.
            CheckpointError: The result is not finite.
        """
        given = cast(Sequence[object], prompts)
        if isinstance(given, str) or not given or not all(isinstance(prompt, str) for prompt in given):
            raise InputError(f"prompts is {prompts!r}; expected a list of one or more strings.")
        for prompt in prompts:
            for remark in self.remarks(prompt, weights=weights, embeddings=embeddings):
                logger.warning("%s", remark)
        if weights:
            encoded = [self._encode_weighted(prompt, embeddings or {}) for prompt in prompts]
            longest = max(each.shape[1] for each in encoded)
            return torch.cat([self._lengthened(each, longest) for each in encoded])
        room = self.max_tokens - 2
        return self._encode_chunks([[Token(each) for each in self.tokenizer.encode(text)[:room]] for text in prompts])

    def remarks(
        self, prompt: str, *, weights: bool = False, embeddings: Mapping[str, Embedding] | None = None
    ) -> list[str]:
        """Return what to tell the author of a text prompt: the end that is cut, words and embeddings not known.

        Args as for `encode`. Raises InputError, as `prompts.check_prompt` does.
        """
        check_prompt(prompt)
        parts = weighted_parts(prompt) if weights else [Part(prompt, 1.0)]
        removed = "" if weights else self.overflow(prompt)
        unknown = self.unknown_words(" ".join(part.text for part in parts))
        told: list[str] = []
        if removed:
            told.append(f"The prompt is longer than {self.max_tokens} tokens; this end of it is ignored: {removed!r}")
        if unknown:
            words, known = first_of([*map(repr, unknown)], _UNKNOWN_SHOWN), first_of(self.words, _KNOWN_SHOWN)
            told.append(f"The model does not know {words}. It knows these words: {known}.")
        return told + self._remarks_on_embeddings(parts, embeddings or {})

    def overflow(self, prompt: str) -> str:
        """Return the end of a text prompt that does not fit into `max_tokens`; empty where all of it fits."""
        return self.tokenizer.decode(self.tokenizer.encode(prompt)[self.max_tokens - 2 :])

    @property
    def words(self) -> list[str]:
        """All words that the model was trained on, sorted; empty where its tokenizer does not say, as published ones.

        A tokenizer of `training.text.make_tokenizer` says so.
        """
        known = self.tokenizer.words
        return sorted({*known, *self.added_words}) if known else []

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a text prompt that are not in `words`, in their order; empty where `words` is."""
        known = {*self.tokenizer.words, *self.added_words} if self.tokenizer.words else None
        return [word for word in dict.fromkeys(words_of(prompt)) if known is not None and word not in known]

    def _remarks_on_embeddings(self, parts: Sequence[Part], embeddings: Mapping[str, Embedding]) -> list[str]:
        told: list[str] = []
        unknown: list[str] = []
        for typed in dict.fromkeys(part.embedding for part in parts if part.embedding):
            name, _ = found_name(typed, embeddings.__contains__)
            if name is None:
                unknown.append(repr(typed))
            elif not embeddings[name].fits(self.dim):
                stage = "this text encoder" if self.for_stage is None else f"the text encoder of Stage {self.for_stage}"
                told.append(f"The embedding {name!r} has no vectors of {self.dim} numbers for {stage}; it is left out.")
        if unknown:
            known = list(embeddings)
            there = f"There are: {first_of(known, _KNOWN_SHOWN)}." if known else "There are none."
            names = first_of(unknown, _UNKNOWN_SHOWN)
            told.append(
                f"The embedding {names} is not known, and it is left out. {there}"
                if len(unknown) == 1
                else f"The embeddings {names} are not known, and they are left out. {there}"
            )
        return told

    def _encode_weighted(self, text: str, embeddings: Mapping[str, Embedding]) -> Tensor:
        """Return the hidden states [1, max_tokens * chunks, dim] of a prompt with weights."""
        size = self.max_tokens - 2
        chunks = chunks_of(weighted_parts(text), self.tokenizer, size, self.dim, embeddings)
        weighs = any(token.weight != 1 for chunk in chunks for token in chunk)
        hidden = self._encode_chunks([*chunks, []] if weighs else chunks)
        if weighs:
            hidden, empty = hidden[:-1], hidden[-1]
            factors = torch.ones(hidden.shape[:2])
            for row, chunk in enumerate(chunks):
                factors[row, 1 : 1 + len(chunk)] = torch.tensor([token.weight for token in chunk])
            weighted = (hidden - empty) * factors[..., None] + empty
            hidden = torch.where(factors[..., None] == 1, hidden, weighted)
        return hidden.flatten(0, 1)[None]

    def _lengthened(self, hidden: Tensor, tokens: int) -> Tensor:
        """Return hidden states [1, tokens, dim], with those of empty prompts at the end."""
        missing = (tokens - hidden.shape[1]) // self.max_tokens
        return torch.cat([hidden, *[self._encode_chunks([[]])] * missing], dim=1)

    def _encode_chunks(self, chunks: Sequence[Sequence[Token]]) -> Tensor:
        """Return the hidden states [chunks, max_tokens, dim] of tokens, each chunk between the start and the end."""
        first, last = self.tokenizer.start, self.tokenizer.end
        ids = torch.full((len(chunks), self.max_tokens), self.tokenizer.pad)
        mask = torch.zeros_like(ids)
        vectors: dict[tuple[int, int], Tensor] = {}
        results: dict[tuple[int, int], Tensor] = {}
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk) + 2] = torch.tensor([first, *(token.id for token in chunk), last])
            mask[row, : len(chunk) + 2] = 1
            for column, token in enumerate(chunk, 1):
                if token.vector is not None:
                    vectors[row, column] = token.vector
                if token.result is not None:
                    results[row, column] = token.result
        with self._vectors_in_place(vectors):
            hidden = self._hidden(ids, mask)
        for place, result in results.items():
            hidden[place] = result.float()
        return hidden

    @contextmanager
    def _vectors_in_place(self, vectors: Mapping[tuple[int, int], Tensor]) -> Generator[None]:
        """Put vectors in place of those that the vocabulary has for the tokens at (row, column)."""

        def replace(layer: nn.Module, given: Any, output: Tensor) -> Tensor:
            for place, vector in vectors.items():
                output[place] = vector.to(output)
            return output

        table = self.model.embeddings.token_embedding
        handle = table.register_forward_hook(replace) if vectors else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()

    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states [batch, max_tokens, dim] of tokens, float32, on the CPU."""
        device = self.model.final_layer_norm.weight.device
        hidden = self.model(ids.to(device), mask.to(device)).float().cpu()
        stage = "" if self.for_stage is None else f" of Stage {self.for_stage}"
        return finite(hidden, self.model, f"The text encoder{stage}")


def equally_long(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return two text embeddings [batch, tokens, dim] with as many tokens: the shorter one is repeated and cut.

    An empty prompt becomes as many empty prompts, and both can be sampled in one call.
    """
    tokens = max(one.shape[1], other.shape[1])
    longer = [each.repeat(1, -(-tokens // each.shape[1]), 1)[:, :tokens] for each in (one, other)]
    return longer[0], longer[1]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without numbers and punctuation."""
    return _WORD.findall(text.lower())
