"""A small CLIP text encoder of our own: a byte-pair vocabulary learned from captions, and a network of a few layers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 32
"""A third of a published encoder's 77: captions of the world are short, and each token costs Stages B and C time."""


def make_tokenizer(captions: Iterable[str], folder: Path, vocabulary: int = 1024) -> "CLIPTokenizer":
    """Learn a CLIP tokenizer from captions and save it in `folder`; words seen often become one token each."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    learner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, end_of_word_suffix="</w>", min_frequency=2)
    learner.train_from_iterator(captions, trainer)
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges] + [START, END]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def check_transformers() -> None:
    """Raises InputError where transformers is too old to make tokenizers and text models (sampling asks for less)."""
    import transformers

    if int(transformers.__version__.partition(".")[0]) < 5:
        raise InputError(
            f"Training needs transformers 5 or later; {transformers.__version__} is installed. "
            "Run pip install 'transformers>=5'."
        )


def load_text_model(folder: Path) -> "CLIPTextModel":
    """The text model in a folder, to be trained further."""
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(folder, dtype=torch.float32).train()


def load_or_make_tokenizer(captions: Iterable[str], folder: Path) -> "CLIPTokenizer":
    """The tokenizer in `folder`, learned from `captions` on the first call."""
    from transformers import CLIPTokenizer

    if (folder / "tokenizer_config.json").is_file():
        return CLIPTokenizer.from_pretrained(folder)
    return make_tokenizer(captions, folder)


def make_text_model(tokenizer: "CLIPTokenizer", width: int, layers: int) -> "CLIPTextModel":
    """An untrained CLIP text model for `tokenizer`, heads 64 wide."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ids: Any = tokenizer.convert_tokens_to_ids([START, END])
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=width,
        bos_token_id=ids[0],
        eos_token_id=ids[1],
        pad_token_id=ids[1],
    )
    return CLIPTextModel(config)


def encode(tokenizer: "CLIPTokenizer", model: nn.Module, captions: list[str]) -> Tensor:
    """Captions -> last hidden states [batch, MAX_TOKENS, width], with gradients; equal captions are encoded once."""
    unique = sorted(set(captions))
    tokens = tokenizer(unique, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    hidden = model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return hidden[[unique.index(caption) for caption in captions]]


def present_words(tokenizer: "CLIPTokenizer", captions: list[str]) -> Tensor:
    """Captions -> [batch, vocabulary], 1 where the caption has the token."""
    words = torch.zeros(len(captions), len(tokenizer))
    for row, ids in zip(words, tokenizer(captions).input_ids, strict=True):
        row[ids] = 1
    return words
