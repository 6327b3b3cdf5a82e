"""Würstchen v2 for ComfyUI: what ComfyUI imports of this folder.

ComfyUI imports it under a name of its own making and does not put it on sys.path. The nodes import `wuerstchen_core`
absolutely, so that one copy serves them and every other program in the process; it is registered here, under its own
name, from this folder.
"""

import importlib.util
import logging
import sys
from pathlib import Path


def _register_core() -> None:
    home = Path(__file__).resolve().parent / "wuerstchen_core"
    loaded = sys.modules.get("wuerstchen_core")
    if loaded is not None:
        where = Path(loaded.__file__ or "").resolve().parent
        if where != home:
            logging.getLogger(__name__).warning(
                "wuerstchen_core is already loaded from %s; the nodes use that copy, not the one in %s. "
                "If they misbehave, uninstall one of the two.",
                where,
                home,
            )
        return
    spec = importlib.util.spec_from_file_location(
        "wuerstchen_core", home / "__init__.py", submodule_search_locations=[str(home)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{home} cannot be imported; reinstall this node pack.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["wuerstchen_core"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["wuerstchen_core"]
        raise


_register_core()

from .nodes import registry  # noqa: E402

NODE_CLASS_MAPPINGS = dict(registry.NODE_CLASS_MAPPINGS)
NODE_DISPLAY_NAME_MAPPINGS = dict(registry.NODE_DISPLAY_NAME_MAPPINGS)

if "folder_paths" in sys.modules and "comfy.model_management" in sys.modules:  # it is ComfyUI that imports this
    from .nodes.comfy import nodes as native
    from .nodes.comfy import routes
    from .nodes.comfy.host import ComfyHost
    from .nodes.host import install

    install(ComfyHost())
    routes.register()
    NODE_CLASS_MAPPINGS |= native.NODE_CLASS_MAPPINGS
    NODE_DISPLAY_NAME_MAPPINGS |= registry.COMFYUI_ONLY

WEB_DIRECTORY = "./nodes/web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
