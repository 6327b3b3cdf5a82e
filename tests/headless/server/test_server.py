"""Test the client of a ComfyUI server without one, and its nodes as a catalog; tests/comfyui has a real server."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from websockets.protocol import State

from support.workflows import editor, editor_node, node, socket
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.errors import BackendError, InvalidWorkflowError, UsageError
from wuerstchen_nodes.headless.server import client
from wuerstchen_nodes.headless.server.answers import Event, History, Status
from wuerstchen_nodes.headless.server.client import Server
from wuerstchen_nodes.headless.workflow.catalog import catalog_of_server
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import load_workflow

URL = "http://there:8188"


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Server:
    """Return a server whose requests a function answers."""
    return Server(URL, transport=httpx.MockTransport(answer))


def always(status: int, **content: Any) -> Server:
    """Return a server that gives the same answer to every request."""
    return answering(lambda request: httpx.Response(status, **content))


def test_a_server_that_cannot_be_reached_ends_with_6(capsys):
    assert cli.main(["run", "--server=http://127.0.0.1:9"]) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert "No ComfyUI server can be reached at http://127.0.0.1:9: " in err and "refused" in err and "--server" in err
    assert not Path("output").exists()


def test_a_server_of_another_kind_ends_with_6(monkeypatch, capsys):
    page = httpx.MockTransport(lambda request: httpx.Response(200, html="<html>hello</html>"))
    monkeypatch.setattr(client, "Server", partial(Server, transport=page))
    assert cli.main(["generate", "x", f"--server={URL}", "--out=o.png", "--json"]) == 6
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 6
    assert "expected a ComfyUI server there" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--server=127.0.0.1:8188"], "expected a URL such as http://"),
        (["--server=ftp://x"], "expected a URL"),
        (["--server=http://x:y"], "expected a URL"),
        (["--server="], "expected a URL"),
        (["--backend=embedded", "--server=http://x"], "needs no --server"),
        (["--backend=cloud"], "expected one of embedded, comfyui, got cloud"),
        (["--server=http://x", "--dry-run"], "cannot ask a server's"),
    ],
)
def test_bad_usage(options, says, capsys):
    try:
        code = cli.main(["run", *options])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert says in capsys.readouterr().err


def test_a_url_may_end_in_a_slash():
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"asked": str(request.url)})

    server = Server("https://host/comfy/", transport=httpx.MockTransport(answer))
    assert server.url == "https://host/comfy"
    assert server.object_info() == {"asked": "https://host/comfy/object_info"}
    with pytest.raises(UsageError):
        Server("host")


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_status_is_named(status):
    with pytest.raises(BackendError, match=rf"{URL}/object_info answers {status} .*; expected a ComfyUI server there"):
        always(status, text="no").object_info()


def test_a_broken_connection_is_explained():
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")

    with pytest.raises(BackendError, match=rf"reached at {URL}: Server disconnected .* response\. Start it"):
        answering(answer).object_info()


def test_an_upload_gives_the_name_to_load_it_by(tmp_path):
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"name": "other.png", "subfolder": "sub", "type": "input"})

    path = tmp_path / 'my "own" ü.png'
    path.write_bytes(b"\x89PNG\r\n\0")
    assert answering(answer).upload(path) == "sub/other.png"
    (request,) = requests
    assert (request.method, request.url) == ("POST", f"{URL}/upload/image")
    assert 'name="image"; filename="my %22own%22 ü.png"'.encode() in request.content
    assert b"\r\n\r\n\x89PNG\r\n\0\r\n--" in request.content


def test_a_prompt_is_queued_with_its_metadata():
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"prompt_id": "p", "node_errors": {}})

    server = answering(answer)
    prompt = {"1": node("Number", value=float("inf"))}
    assert server.submit(prompt, {"workflow": {}}) == "p"
    extra = {"extra_data": {"extra_pnginfo": {"workflow": {}}}}
    assert bodies == [{"prompt": prompt, "client_id": server.client_id, **extra}]


NODE_ERRORS = {
    "1": {
        "errors": [{"type": "too_small", "message": "Value too small", "details": "steps", "extra_info": {}}],
        "dependent_outputs": ["1"],
        "class_type": "Show",
    }
}


def test_a_refused_node_is_named():
    refusal = {"error": {"type": "x", "message": "invalid", "details": ""}, "node_errors": NODE_ERRORS}
    with pytest.raises(InvalidWorkflowError, match=r'Node 1 "Mine" \(Show\): Value too small: steps') as refused:
        always(400, json=refusal).submit({"1": node("Show", "Mine")}, None)
    assert refused.value.node_errors == NODE_ERRORS


def test_a_refused_workflow_is_explained():
    refusal = {"error": {"type": "no_outputs", "message": "Prompt has no outputs", "details": "none"}}
    with pytest.raises(InvalidWorkflowError, match="refuses the workflow: Prompt has no outputs: none") as refused:
        always(400, json=refusal).submit({}, None)
    assert refused.value.error == refusal["error"]


def test_a_prompt_that_is_accepted_in_part_is_cancelled():
    posted: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        posted.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"prompt_id": "p", "node_errors": NODE_ERRORS})

    with pytest.raises(InvalidWorkflowError, match="Value too small"):
        answering(answer).submit({"1": node("Show")}, None)
    assert posted[1:] == [("/queue", {"delete": ["p"]}), ("/interrupt", {"prompt_id": "p"})]


def test_a_file_is_fetched_by_its_place():
    def answer(request: httpx.Request) -> httpx.Response:
        asked = {"filename": "a&b.png", "subfolder": "", "type": "temp"}
        assert request.url.path == "/view" and dict(request.url.params) == asked
        return httpx.Response(200, content=b"png")

    assert answering(answer).fetch({"filename": "a&b.png", "type": "temp"}) == b"png"
    with pytest.raises(BackendError, match=r"no longer has a\.png, which an earlier run saved"):
        always(404).fetch({"filename": "a.png"})


class _Finished(Server):
    """A server that has run a prompt before its history is asked for."""

    def submit(self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None) -> str:
        return "p"

    def result(self, prompt_id: str) -> History:
        messages = [[kind, {"prompt_id": prompt_id, "nodes": ["1"]}] for kind in ("execution_cached", LAST)]
        return History(outputs={}, status=Status(messages=messages))


class _Connection:
    """A websocket that receives events of the given types, then none."""

    protocol = SimpleNamespace(state=State.OPEN)

    def __init__(self, *kinds: str) -> None:
        self.waiting = [json.dumps({"type": kind, "data": {"prompt_id": "p", "node": "1"}}) for kind in kinds]

    def recv(self, timeout: float) -> str:
        if not self.waiting:
            raise TimeoutError
        return self.waiting.pop(0)


LAST = "execution_success"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["execution_cached", "executed", LAST], ["execution_cached", "executed", LAST]),
        (["executed"], ["executed", "execution_cached", LAST]),
        ([], ["execution_cached", LAST]),
    ],
)
def test_events_of_a_short_prompt_are_passed_on_once(monkeypatch, sent, expected):
    received = []
    monkeypatch.setattr(client, "connect", lambda url, client_id: nullcontext(_Connection(*sent)))
    _Finished().run({}, None, lambda kind, data: received.append(kind))
    assert received == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_during_a_run_cancels_the_prompt(monkeypatch, error):
    cancelled = []

    def fail(kind: str, data: Event) -> None:
        raise error

    monkeypatch.setattr(client, "connect", lambda url, client_id: nullcontext(_Connection("executing")))
    monkeypatch.setattr(_Finished, "cancel", lambda self, prompt_id: cancelled.append(prompt_id))
    with pytest.raises(error):
        _Finished().run({}, None, fail)
    assert cancelled == ["p"]


def test_a_prompt_that_the_server_lost_is_an_error(monkeypatch):
    answers = {"/prompt": {"prompt_id": "p"}, "/queue": {"queue_running": [], "queue_pending": []}}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answers.get(request.url.path, {}))

    monkeypatch.setattr(client, "connect", lambda url, client_id: nullcontext(_Connection()))
    with pytest.raises(BackendError, match=f"{URL} dropped the prompt"):
        answering(answer).run({}, None, lambda kind, data: None)


def test_a_websocket_that_cannot_be_opened_is_an_error():
    with pytest.raises(BackendError, match=r"The connection to http://127\.0\.0\.1:9 broke: .*refused"):
        Server("http://127.0.0.1:9").run({}, None, lambda kind, data: None)


def test_a_websocket_that_breaks_during_a_run_is_opened_again_for_a_while(monkeypatch):
    waited = []
    answers = {"/prompt": {"prompt_id": "p"}, "/queue": {"queue_running": [[0, "p"]], "queue_pending": []}}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answers.get(request.url.path, {}))

    class Broken:
        def recv(self, timeout: float) -> str:
            raise ConnectionResetError("reset")

    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr(client, "connect", lambda url, client_id: nullcontext(Broken()))
    with pytest.raises(BackendError, match=f"The connection to {URL} broke: reset"):
        answering(answer).run({}, None, lambda kind, data: None)
    assert waited == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "statement", ["import wuerstchen_nodes.headless.cli.jobs", "with suppress(SystemExit): cli.main(['--help'])"]
)
def test_without_a_server_no_http_library_is_imported(statement):
    imports = "import sys\nfrom contextlib import suppress\nfrom wuerstchen_nodes.headless import cli"
    code = f"{imports}\n{statement}\nprint('modules:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("modules:")[2].split()
    assert "wuerstchen_nodes.headless.cli" in loaded
    assert not {"httpx", "websockets"} & set(loaded)


INFO = {
    "Blur": {
        "input": {
            "required": {"image": ["IMAGE"], "seed": ["INT", {"default": 1, "control_after_generate": True}]},
            "optional": {"mode": ["COMBO", {"options": ["box", "gauss"], "default": "gauss"}], "how": [["a", "b"]]},
        },
        "output": ["IMAGE"],
        "output_node": False,
        "display_name": "Blur It",
    },
    "Show": {"input": {"required": {"image": ["IMAGE", {}]}}, "output": [], "output_node": True},
}


def test_nodes_of_a_server_as_a_catalog():
    catalog = catalog_of_server(INFO, URL)
    inputs = catalog.inputs("Blur")
    assert list(inputs) == ["image", "seed", "mode", "how"]
    assert inputs["seed"].has_control and inputs["seed"].default == 1
    assert (inputs["mode"].choices, inputs["mode"].default) == (["box", "gauss"], "gauss")
    assert (inputs["how"].choices, inputs["how"].required) == (["a", "b"], False)
    assert catalog.title("Blur") == "Blur It" and catalog.title("Show") == "Show"
    assert catalog.is_output("Show") and not catalog.is_output("Blur")
    document = editor(
        [
            editor_node(1, "Blur", widgets_values=[7, "randomize", "box", "b"]),
            editor_node(2, "Show", inputs=[socket("image", "IMAGE", 1)]),
        ],
        [[1, 1, 0, 2, 0, "IMAGE"]],
    )
    prompt = convert(load_workflow(document), catalog)
    assert prompt["1"]["inputs"] == {"seed": 7, "mode": "box", "how": "b"}
    assert prompt["2"]["inputs"] == {"image": ["1", 0]}


def test_an_unknown_node_is_named_with_the_server():
    with pytest.raises(InvalidWorkflowError, match=f"the server {URL} has no node Blurr"):
        convert(load_workflow(editor([editor_node(1, "Blurr")], [])), catalog_of_server({}, URL))


def test_an_unknown_node_may_be_one_of_comfyui(capsys):
    Path("w.json").write_text(json.dumps({"1": node("KSampler")}))
    assert cli.main(["run", "w.json"]) == 3
    assert "--backend comfyui" in capsys.readouterr().err
