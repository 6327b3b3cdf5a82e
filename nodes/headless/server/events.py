"""Events of a run, from the websocket of a ComfyUI server."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wuerstchen_core.files.untrusted import MAX_TEXT_BYTES

from ..extras import require
from . import requests
from .answers import EVENTS, Event, checked, parsed
from .requests import line

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

CHECK_SECONDS = 5.0
"""Seconds after which the history is asked, as an event may have been missed, or the prompt taken out of the queue."""
CLOSE_SECONDS = 1.0
"""Seconds that the end of a connection may take."""
MAX_EVENT = 16 * 2**20
"""Most characters of an event."""
_library_log = logging.getLogger(f"{__name__}.websocket")
"""Log of the library, which prints tracebacks where a server breaks the protocol. It leads nowhere."""
_library_log.addHandler(logging.NullHandler())
_library_log.propagate = False
LAST_EVENTS = ("execution_success", "execution_error", "execution_interrupted")

OnEvent = Callable[[str, Event], None]
"""Called with the type and the data of an event of the websocket."""


class ConnectionLostError(Exception):
    """The websocket cannot be opened, or broke."""


@contextmanager
def connect(url: str, client_id: str) -> "Iterator[ClientConnection]":
    """Open the server's websocket for a `with` block.

    Args:
        url: URL of the server.
        client_id: Id under which the server sends events.
    Raises:
        ConnectionLostError: It cannot be opened.
    """
    require("websockets", "comfyui")
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect as open_websocket

    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        plain = socket.create_connection((parts.hostname or "", port), requests.CONNECT_SECONDS)
        plain.settimeout(None)
        connection = open_websocket(
            f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}",
            sock=plain,  # a connection of our own follows no redirects
            open_timeout=requests.CONNECT_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=MAX_TEXT_BYTES,  # nodes send whole pictures
            max_queue=1,
            proxy=None,
            logger=_library_log,
        )
    except (OSError, WebSocketException, ValueError) as error:
        raise ConnectionLostError(line(str(error), 200) or type(error).__name__) from error
    opened = ExitStack()
    try:
        yield opened.enter_context(connection)
    finally:
        # In a thread that may be left behind: after an interruption inside the library, its close can wait for ever.
        closing = threading.Thread(target=opened.close, daemon=True)
        closing.start()
        closing.join(2 * CLOSE_SECONDS)


def pass_on_events(connection: "ClientConnection", url: str, prompt_id: str, on_event: OnEvent) -> bool:
    """Pass on events of a prompt for `CHECK_SECONDS`, or until its last one.

    Args:
        connection: The websocket.
        url: URL of the server, for messages.
        prompt_id: Id of the prompt.
        on_event: Called with each event.
    Returns:
        bool: Whether the last event was among them.
    Raises:
        ConnectionLostError: The websocket broke.
        BackendError: An event has a wrong shape.
    """
    from websockets.exceptions import WebSocketException
    from websockets.protocol import State

    end = time.monotonic() + CHECK_SECONDS
    while (left := end - time.monotonic()) > 0:
        try:
            message = connection.recv(timeout=left)
        except TimeoutError as error:
            if connection.protocol.state is not State.OPEN:  # and the server does not close its side
                raise ConnectionLostError("the server sent what no websocket sends") from error
            return False
        except (OSError, WebSocketException) as error:
            raise ConnectionLostError(line(str(error), 200)) from error
        if isinstance(message, bytes):  # a preview
            continue
        if len(message) > MAX_EVENT:
            raise ConnectionLostError(f"an event has {len(message)} characters")
        event = parsed(message, f"The websocket of {url}")
        kind, data = event.get("type"), event.get("data")
        if not isinstance(kind, str) or not isinstance(data, dict):
            continue  # of a node pack
        if kind not in EVENTS or data.get("prompt_id") != prompt_id:
            continue
        on_event(kind, checked(Event, data, f"The websocket of {url}"))
        if kind in LAST_EVENTS:
            return True
    return False
