"""Docstrings say what a thing is or does, in the imperative; none begins like a riddle."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [
    ROOT / "__init__.py",
    *(path for name in ("wuerstchen_core", "nodes", "tests") for path in (ROOT / name).rglob("*.py")),
]
RIDDLES = {"What", "Whatever", "That", "Whether", "How", "Where", "Which", "Who", "Whose"}


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string that stands by itself: docstrings, and those under a constant or field."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_no_docstring_begins_like_a_riddle():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in SOURCES
        for line, text in docstrings(path)
        if text.split() and text.split()[0] in RIDDLES
    ]
    assert not found, "\n".join(found)
