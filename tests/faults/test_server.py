"""A ComfyUI server that answers wrongly, slowly, without end or not at all: one clear line, in bounded time.

Its websocket is in test_server_events.py, and the files that it names are in test_server_files.py.
"""

import gzip
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.attacks import files_outside, within
from support.hostile_server import (
    NODES,
    PROMPT_ID,
    WRONG,
    HostileServer,
    gives,
    http,
    repeats,
    resets,
    says,
    wait_for_the_end,
)
from wuerstchen_nodes.headless.errors import BackendError
from wuerstchen_nodes.headless.report import BAD_USAGE, INVALID_WORKFLOW
from wuerstchen_nodes.headless.server import events, requests
from wuerstchen_nodes.headless.server.client import Server

READ = ("/object_info", "/prompt", "/history", "/queue", "/view", "/upload/image")
"""Endpoints whose answer the client reads."""
JSON_READ = [path for path in READ if path != "/view"]
SHAPES: list[Any] = [None, True, 0, -1, 1e400, float("nan"), "", "text", [], [[]], {}, {"a": 1}, [None], "\x00\x1b[31m"]
"""A value of each kind."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A hostile server, a workflow to run on it, and time-outs that are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requests, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(requests, "FILE_SECONDS", 1.0)
    monkeypatch.setattr(requests, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(requests, "CANCEL_SECONDS", 0.2)
    monkeypatch.setattr(events, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(events, "CLOSE_SECONDS", 0.02)
    Path("a.png").write_bytes(b"a picture")
    workflow = {
        "1": {"class_type": "Picture", "inputs": {"image": ["2", 0], "seed": 1}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    }
    Path("w.json").write_text(json.dumps(workflow))
    with HostileServer() as made:
        yield made


def misbehaves(server: HostileServer, path: str, reply: Any) -> None:
    """Let the server misbehave at one endpoint, and ask for it."""
    server.restore()
    server.replies[path] = reply
    if path == "/queue":  # it is asked for while there is no history
        server.replies["/history"] = gives({})


def run(attack: Any, server: HostileServer, codes: frozenset[int] = WRONG, **options: Any) -> str:
    """Run the workflow; check the exit code, and that nothing was written but into the output folder."""
    error = attack.here("run", "w.json", "--server", server.url, "--set=1.seed=2", codes=codes, **options)[1]
    own = {"a.png", "w.json"}
    assert not files_outside(Path(), lambda path: str(path) in own or path.parts[0] == "output")
    return error


ASK: dict[str, Callable[[Server], object]] = {
    "/object_info": lambda server: server.object_info(),
    "/prompt": lambda server: server.submit({}, None),
    "/history": lambda server: server.result(PROMPT_ID),
    "/queue": lambda server: server.cancel(PROMPT_ID),
    "/interrupt": lambda server: server.cancel(PROMPT_ID),
    "/view": lambda server: server.fetch({"filename": "x.png"}),
    "/upload/image": lambda server: server.upload(Path("a.png")),
    "/ws": lambda server: server.run({}, None, lambda kind, data: None),
}
"""{endpoint: method of the client that asks there}."""


WHOLE_RUN = ("/history", "/queue")
"""Endpoints whose answers a run checks further."""


def ask(tried: Any, server: HostileServer, path: str, reply: Any, whole_run: bool = False) -> str:
    """Let the server misbehave at one endpoint, ask there, and check the error, whose text is returned."""
    misbehaves(server, path, reply)
    tried(1)
    with within(), pytest.raises(BackendError) as refused:
        ASK["/ws" if whole_run else path](Server(server.url))
    message = str(refused.value)
    assert message.isprintable() and 20 < len(message) < 1000, message
    return message


def test_a_good_server_runs_the_workflow(attack, server):
    run(attack, server, may_succeed=True)
    assert [path.name for path in Path("output").iterdir()] == ["picture_00001_.png"]


URLS = [
    *("", " ", "x", "http", "http:", "http:/", "http://", "https://", "http:///x", "http://?", "http://#", "//host"),
    *("ftp://host", "file:///etc/passwd", "ws://host", "javascript:alert(1)", "data:,x", "unix:///x", "HTTP//host"),
    *("http://[::1", "http://::1]", "http://[::1]]:1", "http://[zz]", "http://[]", "http://[::1]x", "http://[1.2.3.4]"),
    *("http://host:99999", "http://host:0", "http://host:-1", "http://host:x", "http://host:1:2", "http://host:1e3"),
    *("http://user:password@host", "http://user@host", "http://:password@host", "http://a@b@c", "http://user:@[::1]"),
    *(
        "http://a b",
        "http://host/a b",
        " http://host",
        "http://host ",
        "http://host\n",
        "http://ho\tst",
        "http://h\0st",
    ),
    *("http://\udcff", "http://host/\udc80", "http://\ud83d.de", "http://a..b", "http://.", "http://..", "http://-"),
    *("http://host?x=1", "http://host#x", "http://host/?#", "http://%00", "http://%zz", "http://host%20x", "http://\\"),
    *("http://" + "a" * 64, "http://" + "a." * 200, "http://host/" + "x" * 3000, "http://" + "1" * 10**5, "h" * 10**6),
    *("http://\u202eb.de", "http://\u00ad", "http://xn--", "http://xn--a-\x80", "http://\uff0e", "http://host:\uff11"),
]
HARMLESS = ["http://.", "http://..", "http://-", "http://xn--", "http://%zz", "http://host%20x", "http://host:\uff11"]
"""Addresses that some resolver might know."""


def test_a_url_that_is_none_is_bad_usage(attack, server):
    for url in URLS:
        codes = WRONG | {BAD_USAGE} if url in HARMLESS else frozenset({BAD_USAGE})
        start = time.monotonic()
        _, error = attack.here("run", "w.json", f"--server={url}", codes=codes)
        assert "password@" not in error and len(error) < 2000
        assert error.count("\n") == 1, error
        assert time.monotonic() - start < 5


def test_an_address_that_swallows_everything_is_given_up_soon(attack, server, monkeypatch):
    """10.255.255.1 and fe80::1 lead nowhere; a full backlog stands for them where the network refuses them."""
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        swallowing = f"http://127.0.0.1:{full.getsockname()[1]}"
        for url in ("http://[fe80::1]:8188", "http://10.255.255.1", swallowing):
            start = time.monotonic()
            attack.here("slots", "text_to_image", f"--server={url}", codes=WRONG)
            assert time.monotonic() - start < 6


def test_a_server_that_is_silent_is_waited_for_with_a_line(attack, server, monkeypatch):
    monkeypatch.setattr(requests, "NOTICE_SECONDS", 0.2)
    misbehaves(server, "/object_info", wait_for_the_end)
    assert f"Waiting for {server.url}/object_info to answer" in run(attack, server)


DAMAGED = {
    "nothing": b"",
    "spaces": b"   \n",
    "a page": b"<html>hello</html>",
    "binary": bytes(range(256)),
    "half": b'{"prompt_id": "p',
    "two": b"{}{}",
    "deep list": b"[" * 500 + b"]" * 500,
    "deep object": b'{"a":' * 500 + b"1" + b"}" * 500,
    "bottomless": b'{"a":' * 100_000,
    "key twice": b'{"prompt_id": "a", "prompt_id": "b", "name": "c", "name": "d"}',
    "half a character": b'{"prompt_id": "\\ud83d", "name": "\\udcff"}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "a number of thousands of digits": b'{"prompt_id": ' + b"9" * 10_000 + b"}",
    "a text": b'"text"',
    "a number": b"5",
    "NaN": b"NaN",
    "null": b"null",
    "a list": b"[]",
}


@pytest.mark.parametrize("path", JSON_READ)
def test_an_answer_that_is_no_json_object_is_refused(path, tried, server):
    for content in DAMAGED.values():
        error = ask(tried, server, path, says(http(content)), path in WHOLE_RUN)
        assert "expected a ComfyUI server there" in error


def _shapes_of(key: str, *fitting: int) -> list[dict[str, Any]]:
    return [{key: shape} for index, shape in enumerate(SHAPES) if index not in fitting]


PARTS = {
    "/prompt": [
        *({}, {"prompt_id": "../../interrupt"}, {"prompt_id": "a/b"}, {"prompt_id": "?"}, {"prompt_id": "x" * 5000}),
        *({"prompt_id": "http://127.0.0.1"}, {"prompt_id": "a\n"}, {"prompt_id": "."}),
        *_shapes_of("prompt_id", 7),
        *({"prompt_id": "p", **each} for each in _shapes_of("node_errors", 0, 10)),
        *({"node_errors": {"1": each}} for each in SHAPES),
        *({"node_errors": {"1": {"class_type": "x", "errors": each}}} for each in SHAPES if each != []),
        *({"node_errors": {"1": {"class_type": each, "errors": []}}} for each in SHAPES if not isinstance(each, str)),
        *({"node_errors": {"1": {"class_type": "x", "errors": [{"message": each}]}}} for each in (None, 5, [], {})),
    ],
    "/history": [
        *({PROMPT_ID: each} for each in SHAPES if each is not None),
        *({PROMPT_ID: {"outputs": each}} for each in SHAPES if not isinstance(each, dict)),
        *({PROMPT_ID: {"outputs": {"1": each}}} for each in SHAPES if each is not None and not isinstance(each, dict)),
        *({PROMPT_ID: {"outputs": {"1\n2" * 300: {}}}},),
        *({PROMPT_ID: {"outputs": {}, "status": each}} for each in SHAPES if each is not None),
        *({PROMPT_ID: {"outputs": {}, "status": {"messages": each}}} for each in SHAPES if each != []),
        *({PROMPT_ID: {"outputs": {}, "status": {"messages": [["executed", each]]}}} for each in SHAPES[:10]),
    ],
    "/queue": [
        *({"queue_running": each, "queue_pending": []} for each in SHAPES),
        *({"queue_running": [], "queue_pending": each} for each in SHAPES),
        *({"queue_running": [each], "queue_pending": []} for each in SHAPES),
        *({"queue_running": [[0, each]], "queue_pending": []} for each in SHAPES),
    ],
    "/upload/image": [
        {},
        *_shapes_of("name", 7, 13),
        *({"name": "a", **each} for each in _shapes_of("subfolder", 0, 6, 7, 13)),
    ],
    "/object_info": [
        *({"Picture": each} for each in SHAPES),
        *({"Picture": {"input": each}} for each in SHAPES if each and not isinstance(each, dict)),
        *({"Picture": {"input": {"required": each}}} for each in SHAPES if not isinstance(each, dict)),
        *({"Picture": {"input": {"optional": {"seed": each}}}} for each in (None, 5, True, {}, [], [5], [{}], [None])),
    ],
}
"""Answers that are objects of a wrong shape."""


@pytest.mark.parametrize("path", [path for path in PARTS if path != "/object_info"])
def test_an_answer_of_a_wrong_shape_is_refused(path, tried, server):
    for answer in PARTS[path]:
        ask(tried, server, path, gives(answer), path in WHOLE_RUN)


def test_node_classes_of_a_wrong_shape_are_refused(attack, server):
    for answer in PARTS["/object_info"]:
        misbehaves(server, "/object_info", gives({"LoadImage": NODES["LoadImage"], **answer}))
        run(attack, server)


def test_too_many_classes_inputs_or_outputs_are_refused(attack, server):
    wide = {"optional": {f"i{index}": ["INT", {"default": 1}] for index in range(100_000)}}
    deep = {category: {f"{category}{index}": ["INT"] for index in range(600)} for category in ("required", "optional")}
    Path("w.json").write_text(json.dumps({str(n): {"class_type": "Picture", "inputs": {}} for n in range(2000)}))
    for described in ({"input": wide}, {"input": deep}, {"input": {}, "output": ["IMAGE"] * 1001}):
        misbehaves(server, "/object_info", gives({"Picture": {**NODES["Picture"], **described}}))
        assert "expected at most 1,000" in run(attack, server)
    misbehaves(server, "/object_info", gives({f"n{index}": {} for index in range(20_001)}))
    assert "20,001 nodes; expected at most 20,000" in run(attack, server)


@pytest.mark.long
def test_a_description_of_an_input_may_hold_anything(attack, server):
    """The options of an input, which ComfyUI does not check either, do no harm."""
    for option in ("default", "min", "max", "options", "forceInput", "control_after_generate", "dynamicPrompts"):
        for shape in SHAPES[::2]:
            for kind in ("INT", "COMBO", []):
                server.restore()
                described = {"input": {"required": {"seed": [kind, {option: shape}]}}, "output": shape}
                nodes = {"Picture": {**NODES["Picture"], **described}, "LoadImage": NODES["LoadImage"]}
                server.replies["/object_info"] = gives(nodes)
                attack.here("slots", "w.json", "--server", server.url, may_succeed=True)
    for shape in SHAPES:
        server.replies["/object_info"] = gives({"Picture": {**NODES["Picture"], "display_name": shape}})
        attack.here("run", "w.json", "--server", server.url, "--set=A Picture.seed=1", may_succeed=True)


def test_a_refusal_of_any_size_is_one_line(attack, server):
    long = "x" * 10**6
    fault = {"message": f"\x1b[31m{long}\n{long}", "details": long}
    faults = [{"message": "\x1b" + "x" * 2000, "details": "y\n" * 2000}] * 30
    many = {f"{index}": {"class_type": "z" * 2000, "errors": faults} for index in range(30)}
    for answer in ({"error": fault, "node_errors": {}}, {"error": fault}):
        misbehaves(server, "/prompt", gives(answer, "400 Bad Request"))
        assert run(attack, server, frozenset({INVALID_WORKFLOW})).count("\n") < 4
    for status in ("400 Bad Request", "200 OK"):
        misbehaves(server, "/prompt", gives({"error": fault, "node_errors": many}, status))
        assert "\x1b" not in run(attack, server, frozenset({INVALID_WORKFLOW}))
    for shape in SHAPES:
        misbehaves(server, "/prompt", gives({"error": shape}, "400 Bad Request"))
        run(attack, server)


STATUSES = [
    *("101 Switching Protocols", "102 Processing", "204 No Content", "206 Partial Content", "299 x", "300 Many"),
    *("304 Not Modified", "400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "405 No"),
    *("413 Too Large", "418 I'm a teapot", "429 Slow down", "500 Internal Server Error", "502 Bad Gateway"),
    *("503 Service Unavailable", "504 Gateway Timeout", "511 x", "599 x", "600 x", "999 x", "000 x", "99 x", "20 OK"),
    *("-1 x", "abc", "2000 OK", "404 " + "x" * 10_000, "404 \x1b[31m"),
]


@pytest.mark.parametrize("path", ASK)
def test_a_status_that_says_no_is_reported(path, tried, server):
    for status in STATUSES:
        ask(tried, server, path, says(http(b"", status)))


@pytest.mark.parametrize("path", ASK)
def test_a_redirect_is_named_and_not_followed(path, tried, server):
    with HostileServer() as other:
        places = [f"{server.url}{path}", "file:///etc/passwd", f"{other.url}{path}", "//[", "", "x" * 9000]
        for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"):
            for place in places:
                ask(tried, server, path, says(http(b"", status, [f"Location: {place}"])))
                assert len([each for each in server.asked if path in each]) == 1
        assert other.asked == []


def test_a_wrong_answer_ends_the_command_with_6(attack, server):
    redirect = http(b"", "302 Found", ["Location: file:///etc/passwd"])
    for path in (*READ, "/ws"):
        for data in (http(b"5"), redirect, HTTP["garbage"], HTTP["a gzip bomb"]):
            misbehaves(server, path, says(data))
            run(attack, server)


HTTP = {
    "no head": b"\r\n\r\n",
    "garbage": bytes(range(256)) * 10 + b"\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.0\r\n",
    "HTTP 0.9": b"hello",
    "too short": http(b"{}", length=1000),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a negative length": http(b"{}", length=-1),
    "no length": http(b"{}", length="x"),
    "a huge length": http(b"{}", length=10**30),
    "length and chunks": http(b"5\r\n{}", headers=["Transfer-Encoding: chunked"]),
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a huge chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n{}",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
    "another encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10**6,
    "a thousand headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 2\r\n\r\n{}",
    "a broken header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n{}",
    "a gzip bomb": http(gzip.compress(b"[" * 10**7), headers=["Content-Encoding: gzip"]),
    "two bombs in one": http(gzip.compress(gzip.compress(b" " * 10**7)), headers=["Content-Encoding: gzip, gzip"]),
    "damaged gzip": http(b"\x1f\x8b\x08", headers=["Content-Encoding: gzip"]),
    "unknown encoding": http(b"{}", headers=["Content-Encoding: x"]),
    "br": http(b"{}", headers=["Content-Encoding: br"]),
    "many encodings": http(b"{}", headers=["Content-Encoding: " + "gzip," * 1000]),
}


@pytest.mark.parametrize("path", ASK)
def test_an_answer_that_is_no_http_is_refused(path, tried, server):
    for data in HTTP.values():
        ask(tried, server, path, says(data))
    for data in (b"", b"HTTP", b"HTTP/1.1 200 OK\r\n", http(length=9), http(b"{", length=9)):
        ask(tried, server, path, resets(data))


SLOW = {
    "silence": says(b"", lingers=True),
    "half a head": says(b"HTTP/1.1 200 OK\r\n", lingers=True),
    "half an answer": says(http(b"{", length=9), lingers=True),
    "a byte of the head at a time": repeats(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
    "a byte of the answer at a time": repeats(http(length=10**9), b" ", 0.05),
    "an answer without a length": repeats(b"HTTP/1.1 200 OK\r\n\r\n", b" ", 0.05),
    "a chunk at a time": repeats(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
    "continue": repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
}


@pytest.mark.long
@pytest.mark.parametrize("path", ASK)
def test_an_answer_that_never_ends_is_given_up(path, tried, server, monkeypatch):
    for name in ("ANSWER_SECONDS", "FILE_SECONDS", "CANCEL_SECONDS", "CONNECT_SECONDS"):
        monkeypatch.setattr(requests, name, 0.15)
    for reply in SLOW.values():
        start = time.monotonic()
        error = ask(tried, server, path, reply)
        assert path == "/ws" or "did not answer in full within 0.15 s" in error
        assert time.monotonic() - start < 2


def test_a_command_that_is_never_answered_ends_with_6(attack, server, monkeypatch):
    monkeypatch.setattr(requests, "ANSWER_SECONDS", 0.2)
    for path in JSON_READ:
        misbehaves(server, path, SLOW["a byte of the head at a time" if path == "/prompt" else "a chunk at a time"])
        run(attack, server)
