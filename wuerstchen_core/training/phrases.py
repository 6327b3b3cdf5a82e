"""Captions of the drawn world in the words that people use: synonyms, other prepositions, parts left out."""

import numpy as np

from .world import CORNERS, Scene

SYNONYMS: dict[str, tuple[str, ...]] = {
    "gray": ("gray", "grey"),
    "small": ("small", "tiny", "little"),
    "large": ("large", "big", "huge"),
}
"""Word of a scene -> words for it in captions, each as frequent as the others."""
MIDDLE = ("in the middle", "in the center", "in the centre")
"""Phrases for a figure without a position."""
UNSAID = 0.04
"""Share of captions that leave out the background, and of those that leave out the figure's colour."""


def phrase(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption of a scene in random words.

    Args:
        scene: Content of the image.
        rng: Random generator.
    Returns:
        str: Often `scene.caption`; else the same with synonyms, another preposition, or without one colour.
    """
    unsaid = rng.random()
    colour = "" if unsaid < UNSAID else _word(scene.colour, rng)
    words = [_word(scene.size or "", rng), colour, scene.shape]
    said = " ".join(word for word in words if word)
    if rng.random() < 0.9:
        said = f"{_article(said, rng)} {said}"
    said += _place(scene, rng)
    if not UNSAID <= unsaid < 2 * UNSAID:
        said += _ground(_word(scene.background, rng), rng)
    return said


def _word(word: str, rng: np.random.Generator) -> str:
    known = SYNONYMS.get(word, (word,))
    return known[rng.integers(len(known))]


def _article(noun: str, rng: np.random.Generator) -> str:
    return "an" if noun[0] in "aeiou" and rng.random() < 0.5 else "a"


def _place(scene: Scene, rng: np.random.Generator) -> str:
    """Return the words for the figure's position, with a space before them; "" for none."""
    if scene.position is None:
        return f" {MIDDLE[rng.integers(len(MIDDLE))]}" if rng.random() < 0.3 else ""
    usual, others = ("in", ("at", "on")) if scene.position in CORNERS else ("at", ("on",))
    preposition = usual if rng.random() < 0.7 else others[rng.integers(len(others))]
    corner = " corner" if scene.position in CORNERS and rng.random() < 0.3 else ""
    return f" {preposition} the {scene.position}{corner}"


def _ground(colour: str, rng: np.random.Generator) -> str:
    """Return the words for the background, with a space before them."""
    if rng.random() < 0.1:
        return f" on {colour}"
    return f" on {_article(colour, rng)} {colour} background"
