"""A ComfyUI server that misleads a run that it has begun, by the events of its websocket."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.messages import Assembler

from support.attacks import within
from support.hostile_server import (
    SHAPES,
    WRONG,
    HostileServer,
    command,
    event,
    frame,
    gives,
    http,
    pictures,
    repeats,
    resets,
    says,
)
from wuerstchen_nodes.headless.report import FAILED, WEIGHTS_MISSING
from wuerstchen_nodes.headless.server import client, events, run

DROPPED = {"queue_running": [], "queue_pending": []}


BROKEN = {
    "no JSON": frame("{"),
    "nothing": frame(""),
    "a list": frame("[]"),
    "NaN": frame("NaN"),
    "deep": frame("[" * 500 + "]" * 500),
    "bottomless": frame('{"a":' * 100_000),
    "key twice": frame('{"type": "executing", "type": "executed"}'),
    "half a character": frame('{"type": "\\ud83d"}'),
    "not UTF-8": frame(b"\xff\xfe", opcode=1),
    "a surrogate": frame('"\ud83d"'),
    "a reserved opcode": frame(b"x", opcode=3),
    "a part of nothing": frame(b"x", opcode=0),
    "a ping of a kilobyte": frame(b"x" * 1000, opcode=9),
    "a close of a byte": frame(b"x", opcode=8),
    "a close with a strange code": frame(b"\x00\x01", opcode=8),
    "a gigabyte": frame(b"x", opcode=1, length=2**30),
    "a gigabyte of binary": frame(b"x", length=2**30),
    "a length of 64 bits": frame(b"x", length=2**64 - 1),
    "garbage": bytes(range(256)) * 4,
    "compressed": b"\xc1\x02xx",
    "masked": b"\x81\x81abcde",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_frame_that_is_no_event_ends_the_run(name, attack, server):
    server.frames = [BROKEN[name]]
    server.replies["/history"] = gives({})
    assert str(server.url) in command(attack, server)


def test_events_of_a_wrong_shape_end_the_run(attack, server):
    for kind, key, fitting in [
        ("executed", "node", (None, "", "text")),
        ("executed", "output", (None, {}, {"a": 1})),
        ("execution_cached", "nodes", ([],)),
        ("progress", "max", ()),
        ("execution_error", "node_id", ("", "text")),
        ("execution_error", "exception_message", ("", "text", "\x00\x1b[31m")),
        ("execution_interrupted", "node_type", ("", "text", "\x00\x1b[31m")),
    ]:
        for shape in SHAPES:
            if shape in fitting or (isinstance(shape, (int, float)) and kind == "progress" and shape is not True):
                continue
            server.restore()
            server.frames = [event(kind, **{key: shape})]
            server.replies["/history"] = gives({})
            assert "expected a ComfyUI server there" in command(attack, server)


def test_events_of_others_are_passed_over(attack, server):
    others = [{"type": shape, "data": {"prompt_id": "p-1"}} for shape in SHAPES]
    others += [{"type": "crystools.monitor", "data": shape} for shape in SHAPES]
    others += [{"type": "executing", "data": shape} for shape in SHAPES]
    others += [{"type": "executing", "data": {"prompt_id": shape, "node": 5}} for shape in SHAPES]
    for other in others:
        server.restore()
        server.frames = [frame(json.dumps(other)), frame(b"\x00\x00\x00\x01preview"), *server.frames]
        assert command(attack, server, frozenset(), well=True).endswith(" s\n")
    assert len(pictures()) == len(others)


PROGRESS = [
    *((0, 0), (1, 0), (-1, 10), (5, -5), (11, 10), (10**30, 10**40), (1e308, 1e308), (0.5, 0.5), (1, 1e-300)),
    *((float("nan"), 10), (5, float("nan")), (float("inf"), 10), (5, float("inf")), (-0.0, 1), (1, 2**31 - 1)),
    *((0, 10), (10, 10), (1.5, 2.5), (2**31, 2**31)),
]


def test_progress_of_any_size_is_of_no_harm(attack, server):
    for value, most in PROGRESS:
        for node in ("1", "none"):
            server.restore()
            steps = [event("progress", node=node, value=each, max=most) for each in (value, value, 0, value)]
            server.frames = [*steps, *server.frames]
            command(attack, server, frozenset(), well=True)


def test_a_million_names_of_nodes_take_no_memory(attack, server, monkeypatch):
    monkeypatch.setattr(run, "_MAX_BARS", 10)
    monkeypatch.setattr(run, "MAX_FILES", 50)
    server.frames = [event("progress", node=str(each), value=1, max=1) for each in range(100)] + server.frames
    assert command(attack, server, frozenset(), well=True).count("step 1 of 1") == 10
    server.frames = [event("executed", node=str(each), output={}) for each in range(100)]
    assert "more than 50 nodes" in command(attack, server)


FAILURES = [
    *({}, {"node_id": "1"}, {"node_id": "none", "node_type": "x" * 10**5}, {"exception_message": "x" * 10**6}),
    *({"exception_message": "a\nb\n" * 1000}, {"exception_message": "\x1b]0;title\x07\x1b[2J"}, {"traceback": 5}),
    *({"exception_type": "x", "exception_message": "wuerstchen: error: "}, {"node_id": "1", "executed": None}),
]


def test_a_failure_is_told_in_one_line_whatever_it_says(attack, server):
    for kind in ("execution_error", "execution_interrupted"):
        for data in FAILURES:
            for in_history in (False, True):
                server.restore()
                server.frames = [] if in_history else [event(kind, **data)]
                server.messages = [[kind, data]]
                error = command(attack, server, frozenset({FAILED}))
                assert error.count("\n") == 2 and "\x1b" not in error and len(error) < 5000
    server.messages = [["execution_error", {"exception_type": "a.WeightsMissingError", "exception_message": "x"}]]
    command(attack, server, frozenset({WEIGHTS_MISSING}))


def test_a_run_that_the_queue_lost_is_noticed_among_a_flood_of_events(attack, server):
    floods = [
        event("progress", node="1", value=1, max=2),
        event("executing", node="1") + event("executing", node="2"),
        frame(json.dumps({"type": "executing", "data": {"prompt_id": "other", "node": "1"}})) * 100,
        frame(json.dumps({"type": "status", "data": {}})) * 100,
        frame(b"preview" * 10_000),
        frame(b"", opcode=9) * 100,
        frame(b"x", opcode=1, final=False) + frame(b"x", opcode=0, final=False) * 9,
    ]
    for flood in floods:
        server.restore()
        server.replies.update({"/history": gives({}), "/queue": gives(DROPPED)})
        server.frames, server.then = [], repeats(b"", flood)
        start = time.monotonic()
        command(attack, server)
        assert time.monotonic() - start < 8
    for then in (resets(), says(b""), says(event("executing", node="1"))):
        server.then = then
        command(attack, server)


def test_a_connection_that_always_breaks_is_given_up(attack, server):
    server.replies["/history"] = gives({})
    server.frames, server.then = [], resets()
    assert "broke" in command(attack, server)
    assert server.asked.count("GET /ws") == 5


def test_a_connection_that_breaks_after_every_event_is_given_up(attack, server, monkeypatch):
    monkeypatch.setattr(client, "MOST_BREAKS", 12)
    server.replies["/history"] = gives({})
    server.frames, server.then = [event("executing", node="1")], resets()
    assert "broke" in command(attack, server)
    assert server.asked.count("GET /ws") == 13


@pytest.mark.parametrize("last", events.LAST_EVENTS)
def test_a_run_that_ends_and_never_gets_a_history_is_given_up(attack, server, monkeypatch, last):
    monkeypatch.setattr(client, "HISTORY_SECONDS", 0.2)
    server.replies["/history"] = gives({})
    server.frames = [event("executing", node="1"), event(last)]
    assert "no history of it" in command(attack, server)
    assert len(server.asked) < 50


def started(server: HostileServer, *arguments: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    command = [sys.executable, "-m", "wuerstchen_nodes", "run", "w.json", "--server", server.url, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_a_run_without_end_can_be_interrupted(server, tried):
    for then, held in ((repeats(b"", event("progress", node="1", value=1, max=2)), None), (says(b""), "/queue")):
        tried(1)
        server.restore()
        server.replies["/history"] = gives({})
        server.frames, server.then = [event("executing", node="1")], then
        if held is not None:
            server.replies[held] = says(b"", lingers=True)
        process = started(server)
        deadline = time.monotonic() + 20
        while "GET /ws" not in server.asked and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        error = process.communicate(timeout=20)[1]
        assert process.returncode == 130 and "Traceback" not in error, error
        assert time.monotonic() - start < 9
        assert "POST /queue" in server.asked


def test_an_interruption_inside_the_library_of_websockets_ends_the_run(server, tried, monkeypatch):
    """It may come after the library has noted that its thread reads on, and before the thread is told so."""
    original = Assembler.maybe_resume

    def interrupted(assembler: Any) -> None:
        if not assembler.paused:
            return original(assembler)
        assembler.paused = False
        raise KeyboardInterrupt

    monkeypatch.setattr(Assembler, "maybe_resume", interrupted)
    server.then = repeats(b"", event("progress", node="1", value=1, max=2))
    server.frames = [event("executing", node="1")]
    server.replies["/history"] = gives({})
    with within(20), pytest.raises(KeyboardInterrupt):
        client.Server(server.url).run(json.loads(Path("w.json").read_text()), None, lambda kind, data: None)
    assert "POST /queue" in server.asked
    tried(1)


@pytest.mark.long
def test_answers_without_end_take_bounded_memory(attack, server):
    block = b" " * 2**20
    many = frame(json.dumps({"type": "status", "data": "x" * (40 * 2**20)}))
    endless = repeats(http(length=10**10), block)
    chunked = repeats(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + block + b"\r\n")
    values = says(http(b'{"a": [' + b"0," * 30_000_000 + b"0]}"))
    for path, replies in {
        "/object_info": (endless, values),
        "/history": (chunked,),
        "/view": (endless, chunked),
    }.items():
        for reply in replies:
            server.restore()
            server.replies[path] = reply
            attack.alone("run", "w.json", "--server", server.url, codes=WRONG, seconds=20)
    server.restore()
    server.replies.update({"/history": gives({}), "/queue": gives(DROPPED)})
    server.frames, server.then = [], repeats(b"", many)
    attack.alone("run", "w.json", "--server", server.url, codes=WRONG, seconds=20)
    server.then = repeats(frame(b"", opcode=1, length=2**30), block)
    attack.alone("run", "w.json", "--server", server.url, codes=WRONG, seconds=30)
