# pyright: reportMissingImports=false
"""Requests of the page to this pack."""

import logging
import re

from aiohttp import web
from server import PromptServer

from . import keeping

_KEY = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


def register() -> None:
    """Let ComfyUI's server answer them."""
    PromptServer.instance.routes.post("/wuerstchen/forget")(_forget)


async def _forget(request: web.Request) -> web.Response:
    """Drop the value of a Keep on Disk: {"key": str} -> {"forgotten": bool}."""
    try:
        key = (await request.json())["key"]
    except (ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return web.json_response({"error": 'expected {"key": 64 hexadecimal digits}'}, status=400)
    try:
        return web.json_response({"forgotten": keeping.forget(key)})
    except OSError as error:
        _log.warning("A kept value cannot be dropped: %s", error)
        return web.json_response({"error": str(error)}, status=500)
