"""A server that speaks enough of ComfyUI's protocol for a run, and that misbehaves as a test asks."""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.attacks import Attack, files_outside
from wuerstchen_nodes.headless.report import BACKEND_UNAVAILABLE

PROMPT_ID = "p-1"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A picture of one pixel."""
FILE = {"filename": "picture_00001_.png", "subfolder": "", "type": "output"}
NODES = {
    "Picture": {
        "input": {"required": {"seed": ["INT", {"default": 1}]}, "optional": {"image": ["IMAGE"]}},
        "output": ["IMAGE"],
        "output_node": True,
        "display_name": "A Picture",
    },
    "LoadImage": {"input": {"required": {"image": [["a.png"], {}]}}, "output": ["IMAGE"], "output_node": False},
}

SHAPES: list[Any] = [None, True, -1, 1e400, float("nan"), "", "text", [], [[]], {}, {"a": 1}, "\x00\x1b[31m"]
"""A value of each kind."""
WRONG = frozenset({BACKEND_UNAVAILABLE})
"""Exit codes of a run on a server that answers wrongly."""

Reply = Callable[[socket.socket], None]
"""Function that answers a request on its connection."""


def http(content: bytes = b"", status: str = "200 OK", headers: Iterable[str] = (), length: Any = None) -> bytes:
    """Return the bytes of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def says(data: bytes, lingers: bool = False) -> Reply:
    """Return a reply of these bytes; a lingering one leaves the connection open."""

    def reply(connection: socket.socket) -> None:
        connection.sendall(data)
        if lingers:
            wait_for_the_end(connection)

    return reply


def gives(answer: Any, status: str = "200 OK") -> Reply:
    """Return a reply of a JSON document."""
    return says(http(json.dumps(answer).encode(), status))


def repeats(start: bytes, block: bytes, pause: float = 0) -> Reply:
    """Return a reply that sends a block again and again, after a start."""

    def reply(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(block)
            time.sleep(pause)

    return reply


def resets(data: bytes = b"") -> Reply:
    """Return a reply that sends some bytes and resets the connection."""

    def reply(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return reply


def frame(content: bytes | str, opcode: int | None = None, length: int | None = None, final: bool = True) -> bytes:
    """Return a frame of a websocket, whose declared length may be a lie."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    kind = (1 if isinstance(content, str) else 2) if opcode is None else opcode
    size = len(data) if length is None else length
    head = bytes([(0x80 if final else 0) | kind])
    if size < 126:
        return head + bytes([size]) + data
    return head + (b"\x7e" + struct.pack(">H", size) if size < 2**16 else b"\x7f" + struct.pack(">Q", size)) + data


def event(kind: Any, **data: Any) -> bytes:
    """Return the frame of an event of the prompt."""
    return frame(json.dumps({"type": kind, "data": {"prompt_id": PROMPT_ID, **data}}))


def wait_for_the_end(connection: socket.socket) -> None:
    """Wait until the client has closed the connection."""
    with suppress(OSError):
        while connection.recv(2**16):
            pass


class HostileServer:
    """A server on 127.0.0.1. Use it as a `with` block.

    Attributes:
        url: Its URL.
        replies: {path: reply}, for the paths at which it misbehaves; "/history" and "/ws" for any below them.
        outputs: Outputs of its history.
        messages: Events of its history.
        frames: What its websocket sends after the handshake.
        then: What its websocket does afterwards.
        asked: Requests that it got, as "METHOD /path".
    """

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.outputs: Any = {"1": {"images": [FILE]}}
        self.messages: Any = []
        self.frames: list[bytes] = [event("executing", node="1"), event("execution_success")]
        self.then: Reply = wait_for_the_end
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> "HostileServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Behave again."""
        self.__dict__.update(replies={}, outputs={"1": {"images": [FILE]}}, messages=[], asked=[])
        self.frames, self.then = [event("executing", node="1"), event("execution_success")], wait_for_the_end

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open = [each for each in self._open if each.fileno() != -1] + [connection]
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(2**16)
                if not more:
                    return
                head += more
            head, _, body = head.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            while length and len(body) < int(length[1]) and (more := connection.recv(2**16)):
                body += more
            method, target = head.decode().split()[:2]
            path = target.partition("?")[0]
            self.asked.append(f"{method} {path}")
            known = next((each for each in self.replies if path == each or path.startswith(f"{each}/")), None)
            if known is not None:
                self.replies[known](connection)
            elif path == "/ws":
                self._speak(connection, head)
            else:
                connection.sendall(self._usual(path))

    def _usual(self, path: str) -> bytes:
        if path == "/view":
            return http(PNG)
        if path.startswith("/history/"):
            history = {"outputs": self.outputs, "status": {"messages": self.messages}}
            return http(json.dumps({PROMPT_ID: history}).encode())
        answers = {
            "/object_info": NODES,
            "/prompt": {"prompt_id": PROMPT_ID, "node_errors": {}},
            "/queue": {"queue_running": [[0, PROMPT_ID, {}]], "queue_pending": []},
            "/upload/image": {"name": "a.png", "subfolder": ""},
        }
        return http(json.dumps(answers.get(path, {})).encode())

    def _speak(self, connection: socket.socket, head: bytes) -> None:
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        assert key is not None
        proof = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        connection.sendall("\r\n".join([*lines, f"Sec-WebSocket-Accept: {proof}", "", ""]).encode())
        for each in self.frames:
            connection.sendall(each)
        self.then(connection)


def command(attack: Attack, server: HostileServer, codes: frozenset[int] = WRONG, well: bool = False) -> str:
    """Run w.json on a server; check the exit code, and that nothing was written but into the output folder.

    Args:
        attack: The fixture.
        server: The server.
        codes: Exit codes that are right.
        well: Whether the run may succeed, too.
    Returns:
        str: Stderr.
    """
    error = attack.here("run", "w.json", "--server", server.url, codes=codes, may_succeed=well)[1]
    assert not files_outside(Path(), lambda path: str(path) == "w.json" or path.parts[0] == "output")
    return error


def pictures() -> list[str]:
    """Return the files in the output folder."""
    return sorted(path.relative_to("output").as_posix() for path in Path("output").rglob("*") if path.is_file())
