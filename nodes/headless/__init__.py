"""Run workflow files without ComfyUI.

    from wuerstchen_nodes.headless import execute, load_workflow

    result = execute(load_workflow("text_to_image"), {"Prompt.value": "a red heart on a white background"}, seed=7)
    print(result.images)

Runs that follow each other share an executor, which does again only what changed, and keeps networks in memory where
that is asked for; with a cache on disk it shares results with other processes, too:

    executor = Executor(default_catalog(), DiskCache(), keep_networks=True)
    for seed in range(4):
        execute(load_workflow("text_to_image"), seed=seed, executor=executor)

The names are loaded on first use, so that `wuerstchen --help` answers at once.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .batch.command import Batch as Batch
    from .batch.command import run_batch as run_batch
    from .errors import BackendError as BackendError
    from .errors import InvalidWorkflowError as InvalidWorkflowError
    from .errors import RunError as RunError
    from .errors import UsageError as UsageError
    from .execution.disk_cache import DiskCache as DiskCache
    from .execution.executor import Executor as Executor
    from .host import HeadlessHost as HeadlessHost
    from .run import Result as Result
    from .run import execute as execute
    from .run import prepare as prepare
    from .stock.nodes import default_catalog as default_catalog
    from .workflow.documents import Workflow as Workflow
    from .workflow.documents import load_workflow as load_workflow

_HOME = {
    "BackendError": "errors",
    "Batch": "batch.command",
    "DiskCache": "execution.disk_cache",
    "Executor": "execution.executor",
    "HeadlessHost": "host",
    "InvalidWorkflowError": "errors",
    "Result": "run",
    "RunError": "errors",
    "UsageError": "errors",
    "Workflow": "workflow.documents",
    "default_catalog": "stock.nodes",
    "execute": "run",
    "load_workflow": "workflow.documents",
    "prepare": "run",
    "run_batch": "batch.command",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
