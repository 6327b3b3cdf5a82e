# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# transformers types from_pretrained and save_pretrained in part only.
"""A small CLIP text encoder for training: a byte-pair vocabulary learned from captions, and a few layers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..text.encoder import words_of
from ..text.tokens import WORDS
from ..text.words import listable

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
"""First and last token of every text."""
MAX_TOKENS = 32
"""Tokens of a text; a published encoder has 77. Captions of the world are short, and every token takes time."""


def make_tokenizer(captions: Iterable[str], folder: Path, vocabulary: int = 1024) -> "CLIPTokenizer":
    """Learn a CLIP tokenizer from captions and save it with a list of their words. Frequent ones become one token each.

    Args:
        captions: Texts to learn from.
        folder: Folder to save to; made where there is none.
        vocabulary: Largest number of tokens that are learned.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    captions = list(captions)
    words = listable({word for caption in captions for word in words_of(caption)})
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    learner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, end_of_word_suffix="</w>", min_frequency=2)
    learner.train_from_iterator(captions, trainer)
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges] + [START, END]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    kept: dict[str, Any] = {WORDS: words}  # in tokenizer_config.json
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS, **kept)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def load_text_model(folder: Path) -> "CLIPTextModel":
    """Load the text model in a folder for further training, in float32."""
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(folder, dtype=torch.float32).train()


def load_or_make_tokenizer(captions: Iterable[str], folder: Path) -> "CLIPTokenizer":
    """Load the tokenizer in a folder; where there is none, learn one from captions and save it."""
    from transformers import CLIPTokenizer

    if (folder / "tokenizer_config.json").is_file():
        return CLIPTokenizer.from_pretrained(folder)
    return make_tokenizer(captions, folder)


def make_text_model(tokenizer: "CLIPTokenizer", width: int, layers: int) -> "CLIPTextModel":
    """Return a CLIP text model with random weights.

    Args:
        tokenizer: Its tokenizer.
        width: Length of a token's vector, a multiple of 64.
        layers: Number of layers.
    """
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
    """Return the last hidden states of captions, with gradients. Equal captions are encoded once.

    Returns:
        Tensor: [batch, 32, width].
    """
    unique = sorted(set(captions))
    tokens: Any = tokenizer(unique, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    hidden = model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return hidden[[unique.index(caption) for caption in captions]]


def present_words(tokenizer: "CLIPTokenizer", captions: list[str]) -> Tensor:
    """Return [batch, vocabulary], float32: 1 for tokens that the caption has, else 0."""
    words = torch.zeros(len(captions), len(tokenizer))
    tokens: Any = tokenizer(captions)
    for row, ids in zip(words, tokens.input_ids, strict=True):
        row[ids] = 1
    return words
