# pyright: reportMissingImports=false
"""A pack of the tests' own, beside ours on the server: says what is alive in its process; nodes to compare by."""

import gc
import sys

import comfy.model_management as management
from aiohttp import web
from server import PromptServer
from torch import nn

from .nodes_of_parity import NODE_CLASS_MAPPINGS as NODE_CLASS_MAPPINGS


@PromptServer.instance.routes.get("/probe")
async def probe(_: web.Request) -> web.Response:
    gc.collect()
    names = [type(value).__name__ for value in gc.get_objects() if isinstance(value, nn.Module)]
    core = sys.modules["wuerstchen_core"]
    return web.json_response(
        {
            "alive": [name for name in names if name in ("StageA", "StageB", "StageC", "TextEncoder")],
            "loaded": [
                type(loaded.model.model).__name__ for loaded in management.current_loaded_models if loaded.model
            ],
            "core": str(core.__file__),
            "modules": [name for name in ("transformers", "diffusers", "huggingface_hub") if name in sys.modules],
        }
    )
