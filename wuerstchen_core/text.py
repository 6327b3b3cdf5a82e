"""Text encoders: a text prompt becomes one vector a token. Stage C uses CLIP bigG, Stage B uses CLIP H.

transformers is imported on first use, because it takes longer to import than the rest of the package.
"""

import logging
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .errors import CheckpointError, InputError

logger = logging.getLogger("wuerstchen_core.text")

WORDS = "words"
"""Entry in tokenizer_config.json that lists the words of the captions that the model was trained on."""
_WORD = re.compile(r"[^\W\d_]+")
_UNUSED = ("text_projection.", "position_ids", "logit_scale", "vision_model.", "visual_projection.")
"""Parts of the keys that a CLIP file may hold without an effect on the text model's hidden states."""


class TextEncoder(nn.Module):
    """A CLIP text model with its tokenizer.

    Args:
        model: CLIPTextModel of transformers.
        tokenizer: CLIPTokenizer of transformers, made for that model.
    Attributes:
        dim (int): Length of a token's vector.
        max_tokens (int): Tokens that every text prompt is padded or cut to, 77 as published.
        for_stage (str | None): Stage that it was loaded for, "C" or "B"; None if that was not said.
    """

    for_stage: str | None = None

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        config: Any = model.config
        self.dim: int = config.hidden_size
        self.max_tokens: int = min(tokenizer.model_max_length, config.max_position_embeddings)

    @classmethod
    def from_folders(
        cls, encoder: Path, tokenizer: Path, *, device: torch.device, dtype: torch.dtype | None
    ) -> "TextEncoder":
        """Load from folders that transformers wrote. Nothing is downloaded.

        Args:
            encoder: Folder of the text model (text_encoder/ in a pipeline).
            tokenizer: Folder of the tokenizer (tokenizer/ in a pipeline).
            device: Device of the weights.
            dtype: Dtype of the weights; None for the stored one.
        Returns:
            TextEncoder: In eval mode, without gradients.
        Raises:
            CheckpointError: A file is damaged, incomplete, or of another network.
        """
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        try:
            with _quiet():
                # transformers types from_pretrained in part only.
                words = cast(Any, CLIPTokenizer).from_pretrained(tokenizer, local_files_only=True)
                model, report = cast(Any, CLIPTextModel).from_pretrained(
                    encoder, local_files_only=True, output_loading_info=True, attn_implementation="sdpa"
                )
        except Exception as error:  # transformers and its libraries raise errors of many kinds
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(
                f"{encoder} or {tokenizer} cannot be loaded: {reason}. Expected a CLIP text model and its tokenizer as "
                "transformers saves them; download them again."
            ) from error
        _check_report(report, encoder)
        if len(words) > model.config.vocab_size:
            raise CheckpointError(
                f"{tokenizer} has {len(words)} tokens, the text encoder in {encoder} {model.config.vocab_size}; "
                "expected the tokenizer that was made for it. Choose the two from one pipeline."
            )
        return cls(model, words).to(device, dtype).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return the last hidden state of each text prompt.

        The log warns of an end that does not fit and is cut, and of words that the model was not trained on.

        Args:
            prompts: One or more text prompts; an empty one is the unconditional prompt.
        Returns:
            Tensor: [batch, max_tokens, dim], float32, on the CPU.
        Raises:
            InputError: `prompts` is empty or holds something else than strings.
        """
        given = cast(Sequence[object], prompts)
        if isinstance(given, str) or not given or not all(isinstance(prompt, str) for prompt in given):
            raise InputError(f"prompts is {prompts!r}; expected a list of one or more strings.")
        for prompt in prompts:
            removed = self.overflow(prompt)
            if removed:
                logger.warning(
                    "The prompt is longer than %d tokens; this end of it is ignored: %r", self.max_tokens, removed
                )
            unknown = self.unknown_words(prompt)
            if unknown:
                logger.warning(
                    "The model does not know %s. It knows these words: %s.",
                    ", ".join(map(repr, unknown)), ", ".join(self.words),
                )  # fmt: skip
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
        )
        device = next(self.model.parameters()).device
        hidden = self.model(tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device))
        return hidden.last_hidden_state.float().cpu()

    def overflow(self, prompt: str) -> str:
        """Return the end of a text prompt that does not fit into `max_tokens`; empty where all of it fits."""
        ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) <= self.max_tokens:
            return ""
        return self.tokenizer.decode(ids[self.max_tokens - 1 : -1]).strip()

    @property
    def words(self) -> list[str]:
        """All words that the model was trained on, sorted; empty where its tokenizer does not say, as published ones.

        A tokenizer of `training.text.make_tokenizer` says so.
        """
        return self.tokenizer.init_kwargs.get(WORDS, [])

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a text prompt that are not in `words`, in their order; empty where `words` is."""
        known = self.words
        return [word for word in dict.fromkeys(words_of(prompt)) if known and word not in known]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without numbers and punctuation."""
    return _WORD.findall(text.lower())


def _check_report(report: dict[str, Any], encoder: Path) -> None:
    """Raise CheckpointError where transformers filled in or skipped weights, which it does silently."""
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        found: Iterable[Any] = report.get(kind, ())
        keys: list[str] = [key if isinstance(key, str) else key[0] for key in found]
        wrong = sorted(key for key in keys if not any(part in key for part in _UNUSED))
        if wrong:
            raise CheckpointError(
                f"{encoder}: {wrong[0]!r} is one of {len(wrong)} {kind.replace('_', ' ')}; expected exactly the "
                "tensors of the CLIP text model that its config.json describes. Download it again, or choose another."
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
