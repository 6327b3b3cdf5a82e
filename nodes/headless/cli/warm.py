"""Client of a warm server: hands a command to one that `wuerstchen serve` has started, if there is one.

Imports nothing heavy, since it runs before anything else does.
"""

import hashlib
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import wuerstchen_core

ACCEPTED, REFUSED, INTERRUPT = b"y", b"n", b"i"
"""Bytes between the two: the server takes the command, or does not; the client was interrupted."""
VERBS = frozenset({"run", "generate", "vary"})
"""Verbs that a server takes."""
TIMEOUT = 2.0
"""Seconds that a server has to take or refuse a command, and that a client has to send one."""
MAX_MESSAGE = 8 * 2**20
"""Most bytes of a message: a command line, and an environment."""


def place() -> Path:
    """Return the socket of the user's server, in a folder that only this user can enter."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / "wuerstchen-serve" / "socket"


def is_private(folder: Path) -> bool:
    """Return whether a folder belongs to this user, and nobody else can enter it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def fingerprint() -> str:
    """Return a text that differs between a client and a server of other code, another Python, or other threads."""
    package = Path(__file__).parents[2]
    core = Path(wuerstchen_core.__path__[0])
    files = sorted(path for folder in (package, core) for path in folder.rglob("*.py"))
    content = [sys.executable, os.environ.get("OMP_NUM_THREADS")]
    content += [(str(path), path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def hand_over(arguments: Sequence[str]) -> int | None:
    """Let a server run a command with the standard streams of this process.

    Args:
        arguments: The command line, without the program's name.
    Returns:
        int | None: Its exit code; None where no server has taken it.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        try:
            where = place()
            if not is_private(where.parent) or not where.is_socket():
                return None
            connection.connect(str(where))
            send(connection, _message(arguments))
            if connection.recv(1) != ACCEPTED:
                return None
            socket.send_fds(connection, [ACCEPTED], [0, 1, 2])
        except (OSError, RuntimeError):  # RuntimeError: the user has no home
            return None
        connection.settimeout(None)
        return _wait(connection)


def _message(arguments: Sequence[str]) -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    return {
        "arguments": list(arguments),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "umask": mask,
        "fingerprint": fingerprint(),
    }


def _wait(connection: socket.socket) -> int:
    """Return the exit code that the server sends; pass an interruption on."""
    while True:
        try:
            answer = receive(connection)
        except KeyboardInterrupt:
            with suppress(OSError):  # it has gone, which the next answer says
                connection.sendall(INTERRUPT)
            continue
        code = None if answer is None else answer.get("exit_code")
        if not isinstance(code, int):
            print("wuerstchen: error: the server ended before the command did. Run it again.", file=sys.stderr)
            return 1
        return code


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send a message: its length in four bytes, then JSON."""
    data = json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def receive(connection: socket.socket, seconds: float | None = None) -> dict[str, Any] | None:
    """Receive a message.

    Args:
        connection: The connection.
        seconds: Seconds for the whole message; None to wait.
    Returns:
        dict | None: The message; None where the other side has gone, or sends what is none.
    Raises:
        TimeoutError: It took too long.
    """
    end = None if seconds is None else time.monotonic() + seconds
    length = _exactly(connection, 4, end)
    if length is None or int.from_bytes(length, "big") > MAX_MESSAGE:
        return None
    data = _exactly(connection, int.from_bytes(length, "big"), end)
    try:
        message = None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _exactly(connection: socket.socket, size: int, end: float | None) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        if end is not None:
            connection.settimeout(max(end - time.monotonic(), 0.001))
        try:
            more = connection.recv(size - len(data))
        except ConnectionError:
            return None
        if not more:
            return None
        data += more
    return bytes(data)
