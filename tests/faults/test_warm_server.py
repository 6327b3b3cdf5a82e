"""A warm server that gets garbage, and commands that meet a false one: each command still runs, by itself at worst."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.attacks import check_refusal, within
from wuerstchen_nodes.headless.cli import serve, warm
from wuerstchen_nodes.headless.errors import UsageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs sockets in the file system")

SERVER = """
import os, sys, time
from wuerstchen_nodes.headless.cli.serve import Server
from wuerstchen_nodes.headless.report import Report

def run(arguments, executor):
    time.sleep(60 if "slow" in arguments else 0)
    os.path.exists(os.getcwd())
    return 7

Server(run, Report(), 120).serve()
"""
"""A server whose commands wait, and do nothing else."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[subprocess.Popen[str]]:
    """A warm server for all tests of this module, in a runtime folder of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        patch.setenv("OMP_NUM_THREADS", "1")
        process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd="/")
        assert process.stdout is not None and "Serving on" in process.stdout.readline()
        yield process
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def place(monkeypatch, tmp_path) -> Path:
    """The place of a socket, in a runtime folder of the test's own, without a server."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(warm, "TIMEOUT", 0.2)
    monkeypatch.setattr(serve, "TIMEOUT", 0.2)
    warm.place().parent.mkdir(mode=0o700)
    return warm.place()


def connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(warm.place()))
    return connection


def is_healthy(server: subprocess.Popen[str]) -> bool:
    """Return True if the server still runs commands; it may be about to give another client up."""
    deadline = time.monotonic() + 8
    while (code := warm.hand_over(["fast"])) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return code == 7 and server.poll() is None


def framed(data: bytes, length: int | None = None) -> bytes:
    return (len(data) if length is None else length).to_bytes(4, "big") + data


GARBAGE = {
    "nothing": b"",
    "a byte": b"\x00",
    "no message": framed(b""),
    "half a length": b"\x00\x00",
    "half a message": framed(b"{", 10),
    "4 GiB": framed(b"{", 2**32 - 1),
    "more than the most": framed(b"{", warm.MAX_MESSAGE + 1),
    "a web browser": b"GET / HTTP/1.1\r\n\r\n",
    "binary": bytes(range(256)) * 100,
    "no JSON": framed(b"hello"),
    "not UTF-8": framed(b'"\xff"'),
    "deep": framed(b"[" * 100_000),
    "deep objects": framed(b'{"a":' * 100_000),
    "megabytes of brackets": framed(b"[" + b"[]," * 2_000_000 + b"0]"),
    "a long number": framed(b"9" * 10_000),
    **{f"the value {value}": framed(value.encode()) for value in ("null", "5", '"x"', "[]", "{}", "true", "NaN")},
    "a wrong verb": framed(b'{"verb": ["end"]}'),
    "an end without end": framed(b'{"verb": "end'),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_leaves_the_server_healthy(name, server, tried):
    tried(1)
    with within(), connected() as connection:
        try:
            connection.sendall(GARBAGE[name])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(10) in (b"", warm.REFUSED)
        except (BrokenPipeError, ConnectionResetError):
            pass
    with within():
        assert is_healthy(server)


SHAPES: list[Any] = [None, True, -1, 1.5, "", "text", "\0", "\ud83d", [], [[]], [5], {}, {"a": 5}, {"": ""}, {"=": ""}]
SHAPES += [{"a\0": ""}, {"\ud83d": "\ud83d"}, ["\ud83d"], ["\0"], 2**70, "/nowhere", "/etc/passwd", "x" * 5000]


def test_a_command_of_a_wrong_shape_is_refused(server, tried):
    right = warm._message(["fast"])
    fitting = {"arguments": [[]], "folder": [], "environment": [{}], "umask": [], "fingerprint": []}
    for key in right:
        for shape in SHAPES:
            if shape in fitting[key] or (shape is True and key == "umask"):
                continue
            tried(1)
            with within(), connected() as connection:
                warm.send(connection, {**right, key: shape})
                assert connection.recv(1) == warm.REFUSED, (key, shape)
        tried(1)
        with within(), connected() as connection:
            warm.send(connection, {each: value for each, value in right.items() if each != key})
            assert connection.recv(1) == warm.REFUSED, key
    assert is_healthy(server)


def test_a_client_without_its_streams_is_given_up(server, tried):
    pipe = os.pipe()
    folder = os.open("/", os.O_RDONLY)
    for streams in ([], [pipe[0]], [pipe[0], pipe[1]], [folder] * 3, [pipe[0]] * 3, [pipe[0]] * 200):
        tried(1)
        with within(), connected() as connection:
            warm.send(connection, warm._message(["fast"]))
            assert connection.recv(1) == warm.ACCEPTED
            if streams:
                socket.send_fds(connection, [warm.ACCEPTED], streams)
        assert is_healthy(server)
    for each in (*pipe, folder):
        os.close(each)
    opened = os.listdir(f"/proc/{server.pid}/fd") if sys.platform == "linux" else []
    assert len(opened) < 40


def test_a_client_that_says_nothing_blocks_nobody(server, tried):
    silent = [connected() for _ in range(3)]
    tried(len(silent))
    with within():
        start = time.monotonic()
        assert warm.hand_over(["fast"]) is None, "the command runs by itself"
        assert time.monotonic() - start < 3
    for each in silent:
        each.close()
    with within():
        assert is_healthy(server)


def test_a_client_that_drips_is_given_up(server, tried):
    tried(1)
    with within(), connected() as connection:
        start = time.monotonic()
        connection.sendall(framed(b"{", 1000))
        with pytest.raises(OSError):
            while time.monotonic() - start < 8:
                connection.sendall(b" ")
                time.sleep(0.1)
        assert 1 < time.monotonic() - start < 5
    assert is_healthy(server)


def test_a_client_that_dies_while_its_command_runs_spares_the_server(server, tried):
    for last_words in (b"", b"garbage" * 1000, warm.INTERRUPT * 3):
        tried(1)
        with within(), connected() as connection:
            warm.send(connection, warm._message(["slow"]))
            assert connection.recv(1) == warm.ACCEPTED
            socket.send_fds(connection, [warm.ACCEPTED], [0, 1, 2])
            time.sleep(0.1)
            connection.sendall(last_words)
        with within():
            assert is_healthy(server)


def test_clients_that_die_at_once_spare_the_server(server, tried):
    message = warm._message(["fast"])
    for pause in (0, 0.001, 0.003, 0.01) * 8:
        tried(1)
        with within(), connected() as connection, suppress(ConnectionError):
            warm.send(connection, message)  # which the server refuses while it ends the command before
            if connection.recv(1) == warm.ACCEPTED:
                socket.send_fds(connection, [warm.ACCEPTED], [0, 1, 2])
                time.sleep(pause)
    assert is_healthy(server)


def test_the_folder_of_a_client_may_vanish(server, tried, tmp_path, monkeypatch):
    tried(2)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert warm.hand_over(["fast"]) is None
    monkeypatch.chdir("/")
    assert is_healthy(server)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    assert warm.hand_over(["fast"]) is None


THINGS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a full folder": lambda path: (path / "x").mkdir(parents=True),
    "a pipe": lambda path: os.mkfifo(path),
    "a file": lambda path: path.write_text("mine"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", THINGS)
def test_what_is_no_socket_is_left_alone(name, place, tried, attack):
    THINGS[name](place)
    tried(2)
    with within():
        assert warm.hand_over(["run"]) is None
        assert not serve.ask_to_end()
    attack.here("serve", "--idle", "1s", codes=frozenset({2}))
    assert os.path.lexists(place) and (name != "a file" or place.read_text() == "mine")


def test_a_folder_that_cannot_hold_a_socket_is_bad_usage(tmp_path, monkeypatch, attack):
    (tmp_path / "file").write_text("")
    (tmp_path / "open" / "wuerstchen-serve").mkdir(parents=True, mode=0o755)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "wuerstchen-serve").symlink_to(tmp_path)
    for folder in ("file", "file/x", "open", "linked", "x" * 300, "/proc", "/dev/null", "a" * 90 + "/" + "b" * 90):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / folder))
        assert warm.hand_over(["run"]) is None
        attack.here("serve", "--idle", "1s", codes=frozenset({2}))


def test_the_socket_of_a_server_that_has_gone_is_replaced(place, tried):
    tried(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
        gone.bind(str(place))
    assert warm.hand_over(["run"]) is None
    with serve._listening() as listener:
        assert listener.getsockname() == str(place)
        with pytest.raises(UsageError, match="A server is there already"):
            serve._make_room(place)


def test_a_server_that_is_too_busy_to_answer_keeps_its_socket(place, tried):
    tried(3)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy:
        busy.bind(str(place))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(str(place))
        with within():
            assert warm.hand_over(["run"]) is None
            assert serve.ask_to_end() is False
            with pytest.raises(UsageError, match="A server is there already"):
                serve._make_room(place)
        for each in waiting:
            each.close()
    assert place.is_socket()


ANSWERS = {
    "silence": (b"", b""),
    "nothing at all": (None, b""),
    "no": (b"n", b""),
    "garbage": (b"\xff", b""),
    "yes and garbage": (b"y", b"\xff" * 100),
    "yes and the end": (b"y", b""),
    "yes and 4 GiB": (b"y", b"\xff\xff\xff\xff{"),
    "yes and half": (b"y", b"\x00\x00\x00\x09{"),
    **{
        f"yes and {answer}": (b"y", framed(answer.encode()))
        for answer in ("null", "5", "[]", "{}", '{"exit_code": "x"}', '{"exit_code": null}', "{", "[" * 100_000)
    },
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_false_server_is_noticed(name, place, tried, capsys):
    tried(1)
    first, then = ANSWERS[name]

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            warm.receive(connection)
            if first is not None:
                connection.sendall(first)
            if first == b"y":
                _, streams, _, _ = socket.recv_fds(connection, 1, 3)
                for each in streams:
                    os.close(each)
                connection.sendall(then)
            elif first == b"":
                time.sleep(0.5)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, within():
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        code = warm.hand_over(["run"])
        thread.join()
    if first == b"y":
        check_refusal(code, capsys.readouterr().err)
    else:
        assert code is None


def test_a_command_runs_by_itself_beside_a_false_server(place, attack):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place))
        listener.listen()
        attack.here("run", "nowhere.json", codes=frozenset({2, 3}))


def test_an_interruption_of_a_server_that_has_gone_is_no_traceback(place, tried, monkeypatch, capsys):
    tried(1)
    ours, theirs = socket.socketpair()
    theirs.close()
    answers = iter([KeyboardInterrupt(), None])

    def receive(connection: socket.socket) -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    monkeypatch.setattr(warm, "receive", receive)
    with ours:
        assert warm._wait(ours) == 1
    assert "the server ended" in capsys.readouterr().err


def test_a_server_whose_folder_vanished_still_serves(place, tried, tmp_path, monkeypatch):
    tried(1)
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(warm, "TIMEOUT", 5.0)
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=own)
    assert process.stdout is not None and "Serving on" in process.stdout.readline()
    own.rmdir()
    try:
        assert is_healthy(process) and is_healthy(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
