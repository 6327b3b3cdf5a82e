# pyright: reportAttributeAccessIssue=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# tokenizers does not type its classes.
"""CLIP's tokenizer, from the files that are published beside a text encoder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Bytes
from tokenizers.models import BPE

START, END = "<|startoftext|>", "<|endoftext|>"
"""Tokens around every text prompt."""
MAX_TOKENS = 77
"""Tokens of a text prompt where the files do not say, those at its start and end included."""
WORDS = "words"
"""Entry in tokenizer_config.json that lists the words of the captions that the model was trained on."""
_WORD_END = "</w>"
_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""Pieces of a text that become tokens on their own: English endings, words, digits, other signs."""


class Tokenizer:
    """Byte-pair encoding of text as CLIP was trained with: in lower case, spaces joined.

    Args:
        folder: Folder with tokenizer.json, or with vocab.json and merges.txt; tokenizer_config.json may say more.
    Raises:
        ValueError, OSError, KeyError: A file is damaged or missing. The libraries raise bare Exception, too.
    Attributes:
        start (int): Token before every text.
        end (int): Token after every text.
        pad (int): Token that fills a text up.
        max_tokens (int): Tokens of a text, `start` and `end` included.
        words (list[str]): Words that the model was trained on; empty where the files do not say.
    """

    def __init__(self, folder: Path) -> None:
        settings = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
        vocabulary, merges = _vocabulary(folder)
        tokens: Any = Bytes(
            BPE(
                vocab=vocabulary,
                merges=merges,
                end_of_word_suffix=_WORD_END,
                continuing_subword_prefix="",
                unk_token=_name(settings, "unk_token"),
            )
        )
        tokens.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        tokens.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokens.decoder = decoders.ByteLevel()
        start, end, pad = (_name(settings, kind) for kind in ("bos_token", "eos_token", "pad_token"))
        tokens.add_special_tokens(list(dict.fromkeys((start, end, pad, _name(settings, "unk_token")))))
        self._tokens = tokens
        self.start, self.end, self.pad = (cast(int, tokens.token_to_id(each)) for each in (start, end, pad))
        longest = settings.get("model_max_length", MAX_TOKENS)
        self.max_tokens = longest if isinstance(longest, int) and 2 < longest < 10**6 else MAX_TOKENS
        words: object = settings.get(WORDS, [])
        self.words = [str(word) for word in cast("list[object]", words)] if isinstance(words, list) else []

    def __len__(self) -> int:
        return self._tokens.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without those at the start and the end."""
        return self._tokens.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, in lower case."""
        return self._tokens.decode(ids, skip_special_tokens=False).replace(_WORD_END, " ").strip()


def _vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the tokens by name and the pairs that are merged, in their order."""
    whole = folder / "tokenizer.json"
    if not whole.is_file():
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        pairs = (line.split() for line in lines if line and not line.startswith("#version"))
        return _json(folder / "vocab.json", required=True), [(first, second) for first, second in pairs]
    content = _json(whole, required=True)
    model = content["model"]
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    added = {each["content"]: each["id"] for each in content.get("added_tokens", [])}
    return {**model["vocab"], **added}, [(first, second) for first, second in pairs]


def _json(path: Path, *, required: bool = False) -> dict[str, Any]:
    if not required and not path.is_file():
        return {}
    content: object = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return cast("dict[str, Any]", content)


def _name(settings: Mapping[str, Any], kind: str) -> str:
    """Return the name of a special token, which files give as a text or as an object with its content."""
    given: Any = settings.get(kind) or (START if kind == "bos_token" else END)
    return str(cast("dict[str, Any]", given)["content"]) if isinstance(given, dict) else str(given)
