"""`wuerstchen serve`: a process that keeps networks in memory and runs the commands of this user's other shells."""

import os
import select
import signal
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..execution.executor import Executor
from ..report import INTERRUPTED, Report
from ..stock.nodes import default_catalog
from .streams import Forgiving
from .warm import ACCEPTED, INTERRUPT, REFUSED, TIMEOUT, fingerprint, is_private, place, receive, send

_ASK_TO_END = "end"
"""Verb of the message that asks a server to end."""

RunCommand = Callable[[list[str], Executor], int]
"""Function that runs a command line with an executor that keeps networks, and returns the exit code."""


class Server:
    """Server on a socket of the user's own.

    Args:
        run: Runs a command.
        report: Output of the server itself.
        idle: Seconds without a command after which it ends.
    """

    def __init__(self, run: RunCommand, report: Report, idle: float) -> None:
        self._run, self._report, self._idle = run, report, idle
        self._executor = Executor(default_catalog(), None, keep_networks=True)
        self._fingerprint = fingerprint()
        self._takes_interruptions = True
        self._listener: socket.socket

    def serve(self) -> None:
        """Run commands until nobody has asked for so long, or the user ends it."""
        signal.signal(signal.SIGINT, self._interrupt)  # a shell ignores it for what runs in the background
        with _listening() as self._listener:
            self._report.result(f"Serving on {place()}", event="serving", socket=str(place()))
            self._report.note(
                f"run, generate and vary use it by themselves. It ends after {self._idle:g} s without one."
            )
            while select.select([self._listener], [], [], self._idle)[0]:
                with suppress(OSError):  # a client that has gone
                    connection, _ = self._listener.accept()
                    with connection:
                        if not self._answer(connection):
                            return

    def _answer(self, connection: socket.socket) -> bool:
        """Run the command of a connection. Returns False where it asks to end. Raises OSError: the client has gone."""
        message = receive(connection, TIMEOUT) if _is_of_this_user(connection) else None
        connection.settimeout(TIMEOUT)
        if message is not None and message.get("verb") == _ASK_TO_END:
            connection.sendall(ACCEPTED)
            return False
        if message is None or not _is_command(message) or message["fingerprint"] != self._fingerprint:
            connection.sendall(REFUSED)
            return True
        connection.sendall(ACCEPTED)
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        if len(streams) != 3:
            for stream in streams:
                os.close(stream)
            return True
        with _in_place_of(message, streams):
            code = self._command(connection, message["arguments"])
        send(connection, {"exit_code": code})
        return True

    def _command(self, connection: socket.socket, arguments: list[str]) -> int:
        """Run a command while a thread refuses other clients and passes on an interruption."""
        wake, woken = socket.socketpair()
        begun = threading.Event()
        with wake, woken:
            watch = threading.Thread(target=self._watch, args=(connection, woken, begun), daemon=True)
            watch.start()
            code: Any = None
            # No call stands between the end of the command and the line that lets interruptions pass without effect:
            # only there could one end the server instead.
            try:
                begun.set()
                code = self._run(arguments, self._executor)
            except SystemExit as ended:
                code = ended.code
            except KeyboardInterrupt:  # before the command had begun, or after its end
                code = INTERRUPTED
            finally:
                self._takes_interruptions = False
            wake.send(b".")
            watch.join()
            self._takes_interruptions = True
            return code if isinstance(code, int) else 1

    def _interrupt(self, *_: object) -> None:
        if self._takes_interruptions:
            raise KeyboardInterrupt

    def _watch(self, connection: socket.socket, woken: socket.socket, begun: threading.Event) -> None:
        begun.wait()  # an interruption before that would end the server
        sources = [connection, self._listener, woken]
        main = threading.main_thread().ident or 0
        while True:
            ready = select.select(sources, [], [])[0]
            if woken in ready:
                return
            if self._listener in ready:
                with suppress(OSError):  # it has gone already
                    other, _ = self._listener.accept()
                    with other:
                        other.sendall(REFUSED)
            if connection in ready:
                try:
                    asked = connection.recv(1)
                except OSError:
                    asked = b""
                if asked in (INTERRUPT, b""):  # or the client has gone
                    signal.pthread_kill(main, signal.SIGINT)
                if not asked:
                    sources.remove(connection)


def ask_to_end() -> bool:
    """Ask the user's server to end. Returns False where there is none. Raises UsageError: it runs a command."""
    where = _place()
    if not is_private(where.parent):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(where))
            send(connection, {"verb": _ASK_TO_END})
            answer = connection.recv(1)
        except TimeoutError:
            answer = REFUSED
        except OSError:
            return False
    if answer == REFUSED:
        raise UsageError("The server is busy with a command; ask it to end once that is done.")
    return answer == ACCEPTED


def _place() -> Path:
    try:
        return place()
    except RuntimeError as error:
        raise UsageError("There is no place for a server: you have no home folder. Set XDG_RUNTIME_DIR.") from error


@contextmanager
def _listening() -> Generator[socket.socket]:
    """Listen on the user's socket. Raises UsageError: there is a server, or no place for one."""
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("serve needs sockets in the file system, which Python on this system does not offer.")
    where = _place()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _make_room(where)
            listener.bind(str(where))
            listener.listen()
        except OSError as error:
            raise UsageError(
                f"Cannot serve on {where}: {error.strerror or error}. Name a folder of your own with XDG_RUNTIME_DIR."
            ) from error
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                where.unlink()


def _make_room(where: Path) -> None:
    """Make the folder of the socket, and remove the socket of a server that has gone.

    Raises:
        UsageError: There is a server, or something that is no socket, or the folder is open to others.
        OSError: The folder cannot be made.
    """
    where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(where.parent):
        raise UsageError(f"{where.parent} is not yours alone; expected a folder that only you can enter. Delete it.")
    if not os.path.lexists(where):
        return
    if not stat.S_ISSOCK(where.lstat().st_mode):
        raise UsageError(f"{where} is no socket; expected one, or nothing. Move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(TIMEOUT)
        try:
            other.connect(str(where))
        except ConnectionRefusedError:
            where.unlink()
            return
        except OSError:  # it does not answer now
            pass
    raise UsageError(f"A server is there already, on {where}. `wuerstchen serve --stop` ends it.")


def _is_command(message: dict[str, Any]) -> bool:
    """Return whether a message has the parts of a command, which can be run in the folder that it names."""
    arguments, folder, environment, mask = (message.get(key) for key in ("arguments", "folder", "environment", "umask"))
    if not isinstance(arguments, list) or not isinstance(environment, dict) or not isinstance(folder, str):
        return False
    texts = [folder, *arguments, *environment, *environment.values()]
    return (
        all(isinstance(each, str) and _is_for_the_system(each) for each in texts)
        and all(name and "=" not in name for name in environment)
        and type(mask) is int
        and 0 <= mask <= 0o777
        and isinstance(message.get("fingerprint"), str)
        and os.path.isdir(folder)
        and os.access(folder, os.X_OK)
    )


def _is_for_the_system(text: str) -> bool:
    """Return whether a text can be the name of a file, an argument, or a part of the environment."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _is_of_this_user(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder of the socket is closed to others
    _, user, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return user == os.getuid()


@contextmanager
def _in_place_of(message: dict[str, Any], streams: list[int]) -> Generator[None]:
    """Take the place of a client: its standard streams, its folder, its environment."""
    own = [os.dup(number) for number in range(3)]
    folder, environment, mask = os.open(".", os.O_RDONLY), dict(os.environ), os.umask(message["umask"])
    objects = sys.stdin, sys.stdout, sys.stderr
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False, encoding=objects[1].encoding, errors=objects[1].errors)  # noqa: SIM115
        sys.stderr = Forgiving(open(2, "wb", closefd=False), objects[2].encoding)  # noqa: SIM115
        os.chdir(message["folder"])
        os.environ.clear()
        os.environ.update(message["environment"])
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stdin, sys.stdout, sys.stderr = objects
        for number, stream in enumerate(own):
            os.dup2(stream, number)
        os.fchdir(folder)  # by its descriptor, as it may be deleted
        for number in (*own, *streams, folder):
            os.close(number)
        os.environ.clear()
        os.environ.update(environment)
        os.umask(mask)
