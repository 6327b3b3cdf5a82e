"""Text prompts as people type them: choices and comments, weights of words, names of embeddings. Needs no torch."""

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..errors import InputError
from ..files.untrusted import check_text

UP = 1.1
"""Weight of (words) without a number; [words] have its inverse."""

LONGEST = 20_000
"""Most characters of a prompt. Each 300 or so make a chunk, which the stages attend to at every step."""
_COMMENT = re.compile(r"/\*|//[^\n]*")
"""Beginning of a comment of several lines, or a whole comment to the end of its line."""
_PIECE = re.compile(r"\\.|[{}|]|[^\\{}|]+|\\", re.DOTALL)
_DEEPEST = 100
"""Braces or brackets inside each other that are read; more are text."""

_CLOSING = {"(": ")", "[": "]"}
"""Opening bracket -> closing one."""
_ESCAPED = {rf"\{bracket}": chr(0xE000 + index) for index, bracket in enumerate("()[]")}
"""Escaped brackets, and the private characters that stand for them while a prompt is read."""
_EMBEDDING = re.compile(r"(?:^|(?<=\s))embedding:(\S+)")
_AFTER_A_NAME = ",.;:!?"
_MOST_OF_A_NAME = 4
"""Such characters that the end of a name may have itself. Each is one more look into the folders."""


class Part(NamedTuple):
    """Piece of a prompt whose tokens have the same weight.

    Attributes:
        text: Words; empty where it is an embedding.
        weight: Their weight; 1 is none.
        embedding: Name of an embedding; empty for words.
    """

    text: str
    weight: float
    embedding: str = ""


def check_prompt(text: str) -> None:
    """Check that a text prompt can be encoded in reasonable time and memory.

    Raises:
        InputError: It has more than LONGEST characters, or holds half a character.
    """
    if len(text) > LONGEST:
        raise InputError(f"The prompt has {len(text):,} characters; expected at most {LONGEST:,}. Shorten it.")
    try:
        check_text(text)
    except ValueError as error:
        raise InputError(f"The prompt cannot be read: {error}. Type it again.") from None


def resolve_choices(text: str, choose: Callable[[Sequence[list[str]]], list[str]] = random.choice) -> str:
    """Remove comments (/* */ and //) from a text prompt and take one choice of each {this|that}, as ComfyUI's page.

    Backslashes escape braces and bars: \\{, \\}, \\|.

    Args:
        text: The text prompt. One that `check_prompt` refuses is returned unchanged.
        choose: Takes one of several choices, each a list of pieces of text.
    """
    if len(text) > LONGEST:
        return text
    blocks: list[list[list[str]]] = [[[]]]  # open braces, each with its choices so far; the first is the text itself
    for piece in _PIECE.findall(_without_comments(text)):
        if piece == "{" and len(blocks) <= _DEEPEST:
            blocks.append([[]])
        elif piece == "}" and len(blocks) > 1:
            _close(blocks, choose)
        elif piece == "|" and len(blocks) > 1:
            blocks[-1].append([])
        else:
            blocks[-1][-1].append(piece[1:] if piece in (r"\{", r"\}", r"\|") else piece)
    while len(blocks) > 1:
        _close(blocks, choose)
    return "".join(blocks[0][0])


def _without_comments(text: str) -> str:
    """Remove comments in a single pass; a /* without its end is kept."""
    kept: list[str] = []
    index = start = 0
    last = text.rfind("*/")
    while (match := _COMMENT.search(text, index)) is not None:
        end = match.end()
        if match[0] == "/*":
            if last < end:
                index = end
                continue
            end = text.index("*/", end) + 2
        kept.append(text[start : match.start()])
        start = index = end
    return "".join(kept) + text[start:]


def weighted_parts(text: str) -> list[Part]:
    """Read the weights and embeddings of a text prompt, as ComfyUI reads them.

    (words) weigh 1.1 times as much, (words:1.3) weigh 1.3 whatever is around them, and these nest. [words] weigh
    1 / 1.1 times as much, which ComfyUI itself does not read. A backslash before a bracket makes it a plain character,
    and so is a bracket without its other half. embedding:name stands for the vectors of that embedding.
    """
    for escaped, private in _ESCAPED.items():
        text = text.replace(escaped, private)
    return [part for piece, weight in _weighted(text, 1.0) for part in _split_embeddings(_unescaped(piece), weight)]


def embedding_names(text: str) -> list[str]:
    """Return the names of the embeddings in a text prompt, as they are typed, each once; none where it is too long."""
    if len(text) > LONGEST:
        return []
    return list(dict.fromkeys(part.embedding for part in weighted_parts(text) if part.embedding))


def found_name(typed: str, exists: Callable[[str], bool]) -> tuple[str | None, str]:
    """Tell the name of an embedding from the punctuation that may follow it.

    Args:
        typed: The name as it is typed, such as "cat,".
        exists: Says whether there is an embedding of a name.
    Returns:
        (str | None, str): Name that exists, None if none does; and the punctuation after it.
    """
    bare = typed.rstrip(_AFTER_A_NAME)
    for end in range(min(len(typed), len(bare) + _MOST_OF_A_NAME), len(bare) - 1, -1):
        if end and exists(typed[:end]):
            return typed[:end], typed[end:]
    return None, ""


def _weighted(text: str, weight: float, level: int = 0) -> Iterator[tuple[str, float]]:
    """Yield pieces of a text with their weights."""
    ends = _pairs(text) if level < _DEEPEST else {}
    start = index = 0
    while index < len(text):
        end = ends.get(index)
        if end is None:
            index += 1
            continue
        if start < index:
            yield text[start:index], weight
        yield from _weighted(*_inside(text[index : end + 1], weight), level + 1)
        start = index = end + 1
    if start < len(text):
        yield text[start:], weight


def _pairs(text: str) -> dict[int, int]:
    """Return the index of the other half of each opening bracket that has one."""
    found: dict[int, int] = {}
    opened: dict[str, list[int]] = {closing: [] for closing in _CLOSING.values()}
    for index, character in enumerate(text):
        if character in _CLOSING:
            opened[_CLOSING[character]].append(index)
        elif opened.get(character):
            found[opened[character].pop()] = index
    return found


def _inside(group: str, weight: float) -> tuple[str, float]:
    """Return the text in a pair of brackets and its weight."""
    text = group[1:-1]
    if group[0] == "[":
        return text, weight / UP
    words, colon, number = text.rpartition(":")
    if colon and words:
        try:
            asked = float(number)
        except ValueError:
            asked = math.nan
        if math.isfinite(asked):
            return words, asked
    return text, weight * UP


def _split_embeddings(text: str, weight: float) -> Iterator[Part]:
    start = 0
    for match in _EMBEDDING.finditer(text):
        if match.start() > start:
            yield Part(text[start : match.start()], weight)
        yield Part("", weight, match[1])
        start = match.end()
    if start < len(text):
        yield Part(text[start:], weight)


def _unescaped(text: str) -> str:
    for escaped, private in _ESCAPED.items():
        text = text.replace(private, escaped[1])
    return text


def _close(blocks: list[list[list[str]]], choose: Callable[[Sequence[list[str]]], list[str]]) -> None:
    chosen = choose(blocks.pop())
    blocks[-1][-1] += chosen
