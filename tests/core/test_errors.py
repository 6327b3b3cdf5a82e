"""The tree of exceptions is drawn as it is."""

import importlib
import re

import wuerstchen_core.errors
from wuerstchen_core.errors import WuerstchenError

for name in ("errors", "batch.folder.row_files", "server.requests"):
    importlib.import_module(f"wuerstchen_nodes.headless.{name}")


def _drawn() -> dict[str, str | None]:
    """Return {class: its parent} as the docstring draws it."""
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in (wuerstchen_core.errors.__doc__ or "").splitlines():
        if match := re.match(r"((?:│   |    )*(?:[├└]── )?)(\w+Error)\b", line):
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            drawn[match[2]] = path[depth - 1] if depth else None
    return drawn


def test_the_tree_is_drawn_as_it_is():
    found: dict[str, str | None] = {"WuerstchenError": None}
    waiting: list[type] = [WuerstchenError]
    while waiting:
        parent = waiting.pop()
        for child in parent.__subclasses__():
            if not child.__name__.startswith("_") and child.__module__.startswith("wuerstchen"):
                found[child.__name__] = parent.__name__
                waiting.append(child)
    assert found == _drawn()
