# pyright: reportMissingImports=false
"""Requests of the page to this pack."""

import logging
import re

from aiohttp import web
from server import PromptServer

from wuerstchen_core.files.untrusted import parse_json

from . import keeping

MOST_BYTES = 1024
"""Largest body of a request."""
_KEY = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


def register() -> None:
    """Let ComfyUI's server answer them."""
    PromptServer.instance.routes.post("/wuerstchen/forget")(_forget)


async def _forget(request: web.Request) -> web.Response:
    """Drop the value of a Keep on Disk: {"key": str} -> {"forgotten": bool}."""
    if request.content_length is None or request.content_length > MOST_BYTES:
        return web.json_response({"error": f"expected a body of at most {MOST_BYTES} bytes"}, status=413)
    try:
        key = parse_json((await request.read()).decode())["key"]
    except (ValueError, KeyError, TypeError, web.RequestPayloadError):
        key = None
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return web.json_response({"error": 'expected {"key": 64 hexadecimal digits}'}, status=400)
    try:
        return web.json_response({"forgotten": keeping.forget(key)})
    except OSError as error:
        _log.warning("A kept value cannot be dropped: %s", error)
        return web.json_response({"error": str(error)}, status=500)
