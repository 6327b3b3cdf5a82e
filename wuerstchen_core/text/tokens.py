# pyright: reportAttributeAccessIssue=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# tokenizers does not type its classes.
"""CLIP's tokenizer, from the files that are published beside a text encoder."""

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Bytes
from tokenizers.models import BPE

from ..files.untrusted import MAX_TEXT_BYTES, read_bytes, read_json
from .words import listed_words

START, END = "<|startoftext|>", "<|endoftext|>"
"""Tokens around every text prompt."""
MAX_TOKENS = 77
"""Tokens of a text prompt where the files do not say, those at its start and end included."""
LONGEST = 4096
"""Most tokens of a text prompt that files may ask for. Its memory grows with the square."""
WORDS = "words"
"""Entry in tokenizer_config.json that lists the words of the captions that the model was trained on."""
_MOST_TOKENS = 200_000
"""Most tokens, and most pairs that are merged. CLIP has 49,408."""
_MOST_VALUES = 5 * _MOST_TOKENS
"""Most values of a tokenizer.json, which holds both."""
_LARGEST_TOKEN = 10_000_000
_LONGEST_NAME = 1000
"""Most characters of a special token."""
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
        size (int): Number that is larger than every token.
        words (list[str]): Words that the model was trained on; empty where the files do not say.
    """

    def __init__(self, folder: Path) -> None:
        settings = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
        vocabulary, merges = _vocabulary(folder)
        unknown = _name(settings, "unk_token")
        if unknown not in vocabulary:
            raise ValueError(f"the token {unknown[:100]!r}, which stands for unknown signs, is missing")
        tokens: Any = Bytes(
            BPE(
                vocab=vocabulary,
                merges=merges,
                end_of_word_suffix=_WORD_END,
                continuing_subword_prefix="",
                unk_token=unknown,
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
        tokens.add_special_tokens(list(dict.fromkeys((start, end, pad, unknown))))
        self._tokens = tokens
        self.start, self.end, self.pad = (cast(int, tokens.token_to_id(each)) for each in (start, end, pad))
        self.size = 1 + max(*vocabulary.values(), self.start, self.end, self.pad)
        longest = settings.get("model_max_length", MAX_TOKENS)
        self.max_tokens = longest if isinstance(longest, int) and 2 < longest <= LONGEST else MAX_TOKENS
        self.words = listed_words(settings.get(WORDS))

    def __len__(self) -> int:
        return self._tokens.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without those at the start and the end."""
        return self._tokens.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, in lower case."""
        return self._tokens.decode(ids, skip_special_tokens=False).replace(_WORD_END, " ").strip()


def _vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the tokens by name and the pairs that are merged, in their order. Raises: ValueError, OSError, KeyError"""
    whole = folder / "tokenizer.json"
    if not whole.is_file():
        text = read_bytes(folder / "merges.txt", MAX_TEXT_BYTES).decode("utf-8-sig")
        if text.count("\n") > _MOST_TOKENS:
            raise ValueError(f"merges.txt has {text.count(chr(10)):,} lines; expected at most {_MOST_TOKENS:,}")
        lines = (line for line in text.split("\n") if line.strip() and not line.startswith("#version"))
        vocabulary = _json(folder / "vocab.json", required=True, values=_MOST_TOKENS)
        return _tokens(vocabulary), _pairs(line.split(None, 2) for line in lines)
    content = _json(whole, required=True)
    model, added = _object("model", content["model"]), content.get("added_tokens", [])
    more = {each["content"]: each["id"] for each in (_object("added_tokens", each) for each in _list(added))}
    merges = (pair.split(" ") if isinstance(pair, str) else pair for pair in _list(model["merges"]))
    return _tokens({**_object("vocab", model["vocab"]), **more}), _pairs(merges)


def _tokens(given: Mapping[Any, Any]) -> dict[str, int]:
    """Check a vocabulary, and return it. Raises: ValueError"""
    if len(given) > _MOST_TOKENS:
        raise ValueError(f"there are {len(given):,} tokens; expected at most {_MOST_TOKENS:,}")
    found: dict[str, int] = {}
    for token, number in given.items():
        if not isinstance(token, str) or not isinstance(number, int) or not 0 <= number < _LARGEST_TOKEN:
            raise ValueError(
                f"the token {reprlib.repr(token)} has the number {reprlib.repr(number)}; expected 0 to {_LARGEST_TOKEN}"
            )
        found[token] = number
    if len(set(found.values())) < len(found):
        raise ValueError("two tokens have the same number")
    if not found:
        raise ValueError("there are no tokens")
    return found


def _pairs(given: Iterable[Any]) -> list[tuple[str, str]]:
    """Check pairs of tokens, and return them. Raises: ValueError"""
    found: list[tuple[str, str]] = []
    for pair in given:
        if len(found) == _MOST_TOKENS:
            raise ValueError(f"more than {_MOST_TOKENS:,} pairs are to be merged")
        if not isinstance(pair, list) or [type(each) for each in cast("list[object]", pair)] != [str, str]:
            raise ValueError(f"{reprlib.repr(cast(object, pair))} is to be merged; expected two tokens")
        first, second = cast("list[str]", pair)
        found.append((first, second))
    return found


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{reprlib.repr(value)} is no list")
    return cast("list[Any]", value)


def _object(name: str, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {reprlib.repr(value)}; expected an object")
    return cast("dict[Any, Any]", value)


def _json(path: Path, *, required: bool = False, values: int = _MOST_VALUES) -> dict[str, Any]:
    if not required and not path.is_file():
        return {}
    try:
        return _object(path.name, read_json(path, values=values))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path.name} cannot be read ({reason})") from error


def _name(settings: Mapping[str, Any], kind: str) -> str:
    """Return the name of a special token, which files give as a text or as an object with its content."""
    given: Any = settings.get(kind) or (START if kind == "bos_token" else END)
    name = _object(kind, given)["content"] if isinstance(given, dict) else given
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"{kind} is {reprlib.repr(name)}; expected the text of a token")
    return name
