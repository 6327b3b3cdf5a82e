"""Text encoders: a text prompt becomes one vector a token. Stage C uses CLIP bigG, Stage B uses CLIP H.

transformers is imported on first use, because it takes longer to import than the rest of the package.
"""

import logging
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .errors import CheckpointError, InputError, WeightsMissingError

logger = logging.getLogger("wuerstchen_core.text")

CLIP_TOKENIZER = Path(__file__).parent / "tokenizer"
"""Folder of CLIP's own tokenizer."""
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
    def from_state(
        cls, state: Mapping[str, Tensor], config: Mapping[str, object] | None, tokenizer: Path | None, where: str
    ) -> "TextEncoder":
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
        return cls(model, words).eval().requires_grad_(False)

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
            for remark in self.remarks(prompt):
                logger.warning("%s", remark)
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
        )
        device = next(self.model.parameters()).device
        hidden = self.model(tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device))
        return hidden.last_hidden_state.float().cpu()

    def remarks(self, prompt: str) -> list[str]:
        """Return what to tell the author of a text prompt: the end that is cut, and words that are not known."""
        removed, unknown = self.overflow(prompt), self.unknown_words(prompt)
        told: list[str] = []
        if removed:
            told.append(f"The prompt is longer than {self.max_tokens} tokens; this end of it is ignored: {removed!r}")
        if unknown:
            words, known = ", ".join(map(repr, unknown)), ", ".join(self.words)
            told.append(f"The model does not know {words}. It knows these words: {known}.")
        return told

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
