"""Text encoders: a prompt becomes one vector a token. Stage C has its own (CLIP bigG), Stage B another (CLIP H).

transformers is imported on first use: it takes longer to import than the rest of the package.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import CheckpointError, InputError

logger = logging.getLogger("wuerstchen_core.text")

_UNUSED = ("text_projection.", "position_ids", "logit_scale", "vision_model.", "visual_projection.")
"""Tensors that files of CLIP may hold beside the text model, and that its hidden states do not depend on."""


class TextEncoder(nn.Module):
    """A CLIP text model with its tokenizer.

    dim: length of a token's vector. max_tokens: positions that every prompt is padded or cut to, 77 as published.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        """model: transformers' CLIPTextModel. tokenizer: its CLIPTokenizer."""
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
        """Load from a text_encoder/ and a tokenizer/ folder as transformers writes them. Touches no network.

        Args:
            dtype: of the weights; None for what is stored.
        Raises:
            CheckpointError: a file is damaged, incomplete, or of another network.
        """
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        try:
            with _quiet():
                words = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
                loaded: Any = CLIPTextModel.from_pretrained(
                    encoder, local_files_only=True, output_loading_info=True, attn_implementation="sdpa"
                )
        except Exception as error:  # the libraries below raise errors of many kinds, some of them bare Exceptions
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(
                f"{encoder} or {tokenizer} cannot be loaded: {reason}. Expected a CLIP text model and its tokenizer as "
                "transformers saves them; download them again."
            ) from error
        model, report = loaded
        _check_report(report, encoder)
        if len(words) > model.config.vocab_size:
            raise CheckpointError(
                f"{tokenizer} has {len(words)} tokens, the text encoder in {encoder} {model.config.vocab_size}; "
                "expected the tokenizer that was made for it. Choose the two from one pipeline."
            )
        return cls(model, words).to(device, dtype).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """The last hidden state of each prompt. What does not fit is cut, and logged as a warning.

        Args:
            prompts: one or more; an empty prompt is the unconditional one.
        Returns:
            Tensor: [batch, max_tokens, dim], float32, on the CPU.
        Raises:
            InputError: `prompts` is empty or holds something else than strings.
        """
        if isinstance(prompts, str) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise InputError(f"prompts is {prompts!r}; expected a list of one or more strings.")
        for prompt in prompts:
            removed = self.overflow(prompt)
            if removed:
                logger.warning(
                    "The prompt is longer than %d tokens; this end of it is ignored: %r", self.max_tokens, removed
                )
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
        )
        device = next(self.model.parameters()).device
        hidden = self.model(tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device))
        return hidden.last_hidden_state.float().cpu()

    def overflow(self, prompt: str) -> str:
        """The end of `prompt` that does not fit into max_tokens, as the tokenizer reads it; empty where all fits."""
        ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) <= self.max_tokens:
            return ""
        return self.tokenizer.decode(ids[self.max_tokens - 1 : -1]).strip()


def _check_report(report: dict[str, Any], encoder: Path) -> None:
    """Raises CheckpointError where transformers filled in or skipped weights, which it does without an error."""
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        keys = [key[0] if isinstance(key, tuple) else key for key in report.get(kind, ())]
        wrong = sorted(key for key in keys if not any(part in key for part in _UNUSED))
        if wrong:
            raise CheckpointError(
                f"{encoder}: {wrong[0]!r} is one of {len(wrong)} {kind.replace('_', ' ')}; expected exactly the "
                "tensors of the CLIP text model that its config.json describes. Download it again, or choose another."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bars and reports; errors are raised all the same."""
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
