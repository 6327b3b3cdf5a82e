"""The command against what is no ComfyUI server, and the nodes of one as a catalog; a real one is in tests/comfyui."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.workflows import editor, editor_node, node, socket
from wuerstchen_nodes.headless import cli
from wuerstchen_nodes.headless.errors import InvalidWorkflowError, UsageError
from wuerstchen_nodes.headless.server import client as server
from wuerstchen_nodes.headless.server.client import Server
from wuerstchen_nodes.headless.workflow.catalog import catalog_of_server
from wuerstchen_nodes.headless.workflow.convert import convert
from wuerstchen_nodes.headless.workflow.documents import load_workflow


class _Page(BaseHTTPRequestHandler):
    """A web server of another kind: every page is there, none says what was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_cannot_be_reached_ends_with_6(capsys):
    assert cli.main(["run", "--server=http://127.0.0.1:9"]) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert "No ComfyUI server can be reached at http://127.0.0.1:9: " in err and "--server" in err
    assert not Path("output").exists()


def test_a_server_of_another_kind_ends_with_6(page, capsys):
    assert cli.main(["generate", "x", f"--server={page}", "--out=o.png", "--json"]) == 6
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 6
    assert "expected a ComfyUI server there" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--server=127.0.0.1:8188"], "expected a URL such as http://"),
        (["--server=ftp://x"], "expected a URL"),
        (["--server="], "expected a URL"),
        (["--backend=embedded", "--server=http://x"], "needs no --server"),
        (["--backend=cloud"], "invalid choice: 'cloud'"),
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


class _Finished(Server):
    """A server that ran a prompt before anyone asked for its history."""

    def submit(self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None) -> str:
        return "p"

    def result(self, prompt_id: str) -> dict[str, Any]:
        messages = [[kind, {"prompt_id": prompt_id, "nodes": ["1"]}] for kind in ("execution_cached", LAST)]
        return {"outputs": {}, "status": {"messages": messages}}


class _Socket:
    """Gives these events, then none."""

    def __init__(self, *kinds: str) -> None:
        self.waiting = [json.dumps({"type": kind, "data": {"prompt_id": "p", "node": "1"}}) for kind in kinds]

    def recv(self, timeout: float) -> str:
        if not self.waiting:
            raise TimeoutError
        return self.waiting.pop(0)


LAST = "execution_success"


@pytest.mark.parametrize(
    ("comes", "told"),
    [
        (["execution_cached", "executed", LAST], ["execution_cached", "executed", LAST]),
        (["executed"], ["executed", "execution_cached", LAST]),
        ([], ["execution_cached", LAST]),
    ],
)
def test_events_of_a_prompt_that_ends_at_once_are_told_once(monkeypatch, comes, told):
    heard = []
    monkeypatch.setattr(server, "_connected", lambda url, client_id: nullcontext(_Socket(*comes)))
    _Finished().run({}, None, lambda kind, data: heard.append(kind))
    assert heard == told


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


def test_a_servers_nodes_as_a_catalog():
    catalog = catalog_of_server(INFO, "http://there")
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


def test_a_node_that_the_server_lacks_is_named_with_the_server():
    with pytest.raises(InvalidWorkflowError, match="the server http://there has no node Blurr"):
        convert(load_workflow(editor([editor_node(1, "Blurr")], [])), catalog_of_server({}, "http://there"))


def test_a_node_that_is_not_known_here_may_be_known_to_a_server(capsys):
    Path("w.json").write_text(json.dumps({"1": node("KSampler")}))
    assert cli.main(["run", "w.json"]) == 3
    assert "--backend comfyui" in capsys.readouterr().err


def test_a_url_may_end_in_a_slash():
    assert Server("https://host/comfy/").url == "https://host/comfy"
    with pytest.raises(UsageError):
        Server("host")
