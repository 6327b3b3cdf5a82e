"""Words that files say a text encoder knows."""

from collections.abc import Iterable, Sequence
from typing import cast

MOST_WORDS, LONGEST_WORD = 10_000, 100
"""Most words that a file may list, and most characters of one. cocktail knows 42."""


def listed_words(listed: object) -> list[str]:
    """Return the words in a list of a JSON document, without what is no text; none where it is no list.

    Raises:
        ValueError: There are too many, or one is too long.
    """
    words = cast("list[object]", listed) if isinstance(listed, list) else []
    if len(words) > MOST_WORDS:
        raise ValueError(f"it lists {len(words):,} words; expected at most {MOST_WORDS:,}")
    texts = [word for word in words if isinstance(word, str)]
    for word in texts:
        if len(word) > LONGEST_WORD:
            raise ValueError(f"the word {word[:40]!r} has {len(word):,} characters; expected at most {LONGEST_WORD}")
    return texts


def listable(words: Iterable[str]) -> list[str]:
    """Return the words that a file may list, sorted."""
    return sorted(word for word in words if len(word) <= LONGEST_WORD)[:MOST_WORDS]


def first_of(names: Sequence[str], most: int) -> str:
    """Return names for a message: the first ones, each cut after 100 characters, and how many more there are."""
    shown = ", ".join(name[:100] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
