"""Run workflow files without ComfyUI.

    from wuerstchen_nodes.headless import execute, load_workflow

    result = execute(load_workflow("text_to_image.json"), {"Prompt.value": "a red heart on a white background"}, seed=7)
    print(result.images)

The names are loaded on first use, so that `wuerstchen --help` answers at once.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .documents import Workflow as Workflow
    from .documents import load_workflow as load_workflow
    from .errors import InvalidWorkflowError as InvalidWorkflowError
    from .errors import RunError as RunError
    from .errors import UsageError as UsageError
    from .executor import Executor as Executor
    from .host import HeadlessHost as HeadlessHost
    from .run import Result as Result
    from .run import execute as execute
    from .run import prepare as prepare

_HOME = {
    "Executor": "executor",
    "HeadlessHost": "host",
    "InvalidWorkflowError": "errors",
    "Result": "run",
    "RunError": "errors",
    "UsageError": "errors",
    "Workflow": "documents",
    "execute": "run",
    "load_workflow": "documents",
    "prepare": "run",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
