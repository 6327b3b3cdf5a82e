"""Client of a warm server: hands a command to one that `wuerstchen serve` has started, if there is one.

Imports nothing heavy, since it runs before anything else does.
"""

import hashlib
import json
import os
import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wuerstchen_core

ACCEPTED, REFUSED, INTERRUPT = b"y", b"n", b"i"
"""Bytes between the two: the server takes the command, or does not; the client was interrupted."""
VERBS = frozenset({"run", "generate", "vary"})
"""Verbs that a server takes."""
_TIMEOUT = 2
"""Seconds that a server has to take or refuse a command."""


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
    where = place() if hasattr(socket, "AF_UNIX") else None
    if where is None or not is_private(where.parent) or not where.exists():
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(str(where))
            send(connection, _message(arguments))
            if connection.recv(1) != ACCEPTED:
                return None
            socket.send_fds(connection, [ACCEPTED], [0, 1, 2])
        except OSError:
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
            connection.sendall(INTERRUPT)
            continue
        if answer is None:
            print("wuerstchen: error: the server ended before the command did. Run it again.", file=sys.stderr)
            return 1
        return int(answer["exit_code"])


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send a message: its length in four bytes, then JSON."""
    data = json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(4, "big") + data)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Receive a message; None where the other side has gone."""
    length = _exactly(connection, 4)
    data = None if length is None else _exactly(connection, int.from_bytes(length, "big"))
    return None if data is None else json.loads(data)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            more = connection.recv(size - len(data))
        except ConnectionError:
            return None
        if not more:
            return None
        data += more
    return data
