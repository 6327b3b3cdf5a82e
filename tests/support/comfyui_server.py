"""Driver of a real ComfyUI server over HTTP and its websocket, as its page uses it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from support.comfyui_page import PACK

Prompt = dict[str, dict[str, Any]]

PREVIEW_IMAGE = 1
"""Type of a binary websocket message that holds a preview."""


@dataclass(frozen=True)
class Run:
    """Result of a prompt.

    Attributes:
        status: Status that the server reports.
        cached: Ids of the nodes that did not run.
        outputs: {node id: items that it shows}.
        error: Error of the node that failed; None for none.
        events: Messages of the websocket.
        previews: Preview images of the websocket.
    """

    status: str
    cached: set[str]
    outputs: dict[str, dict[str, list[Any]]]
    error: dict[str, Any] | None
    events: list[dict[str, Any]] = field(default_factory=list)
    previews: list[Image.Image] = field(default_factory=list)


class RefusedError(Exception):
    """The server refused a prompt or one of its outputs."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer)
        self.answer = answer


class Server:
    """A running server.

    Args:
        url: URL that it listens at.
        folder: Base directory, with output/, input/ and models/.
        log: File of its log.
        pid: Id of its process.
    """

    def __init__(self, url: str, folder: Path, log: Path, pid: int) -> None:
        self.pid = pid
        self.url = url
        self.folder = folder
        self._log = log

    @property
    def log(self) -> str:
        """Return the output of the server."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        """Return the JSON of a GET request."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def has(self, path: str) -> bool:
        """Return whether a GET request finds something."""
        try:
            self.get(path)
        except urllib.error.HTTPError:
            return False
        return True

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return (status, JSON) of a POST request, also for an error status."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            content, status = error.read(), error.code
        return status, json.loads(content) if content else None

    def run(self, prompt: Prompt, *, seconds: float = 300) -> Run:
        """Queue a prompt and wait for its end, for at most `seconds`."""
        status, queued = self.post("/prompt", {"prompt": prompt})
        assert status == 200, queued
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            entry = self.get(f"/history/{queued['prompt_id']}").get(queued["prompt_id"])
            if entry is not None:
                return _run_of(entry)
            time.sleep(0.1)
        raise TimeoutError(f"no end after {seconds} s; the log ends:\n{self.log[-3000:]}")

    def settled(self, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until nothing is queued or running, and return the history of the latest prompt."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            queue = self.get("/queue")
            if not queue["queue_running"] and not queue["queue_pending"]:
                return list(self.get("/history").values())[-1]
            time.sleep(0.1)
        raise TimeoutError(f"still busy after {seconds} s; the log ends:\n{self.log[-3000:]}")

    def watch(self, prompt: Prompt, on_event: Callable[[dict[str, Any]], None] | None = None) -> Run:
        """Queue a prompt as the page does and collect its events until it ends. Raises RefusedError."""
        from websockets.sync.client import connect

        client = uuid.uuid4().hex
        events: list[dict[str, Any]] = []
        previews: list[Image.Image] = []
        with connect(f"{self.url.replace('http', 'ws')}/ws?clientId={client}", max_size=None) as socket:
            status, queued = self.post("/prompt", {"prompt": prompt, "client_id": client})
            if status != 200 or queued["node_errors"]:
                raise RefusedError(queued)
            while True:
                message = socket.recv(timeout=120)
                if isinstance(message, bytes):
                    if int.from_bytes(message[:4], "big") == PREVIEW_IMAGE:
                        previews.append(Image.open(BytesIO(message[8:])).copy())
                    continue
                event = json.loads(message)
                events.append(event)
                if on_event is not None:
                    on_event(event)
                if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                    break
        while not (entry := self.get(f"/history/{queued['prompt_id']}").get(queued["prompt_id"])):
            time.sleep(0.05)
        ended = _run_of(entry)
        return Run(ended.status, ended.cached, ended.outputs, ended.error, events, previews)

    def images(self, run: Run) -> list[NDArray[np.uint8]]:
        """Return the images that a run showed, each [height, width, 3], uint8, ordered by node id."""
        shown = [image for node in sorted(run.outputs, key=int) for image in run.outputs[node].get("images", [])]
        return [self.view(image) for image in shown]

    def view(self, image: dict[str, str]) -> NDArray[np.uint8]:
        """Return an image that a node shows, [height, width, 3], uint8."""
        with urllib.request.urlopen(f"{self.url}/view?{urllib.parse.urlencode(image)}", timeout=60) as answer:
            return np.asarray(Image.open(BytesIO(answer.read())).convert("RGB"))


def _run_of(entry: dict[str, Any]) -> Run:
    cached: set[str] = set()
    error = None
    for kind, content in entry["status"]["messages"]:
        if kind == "execution_cached":
            cached |= set(content["nodes"])
        elif kind in ("execution_error", "execution_interrupted"):
            error = {"type": kind, **content}
    return Run(entry["status"]["status_str"], cached, entry["outputs"], error)


def with_the_pack(folder: Path) -> None:
    """Make `folder` a base directory with this pack in custom_nodes/, and turn off the page's tour."""
    for name in ("custom_nodes", "input", "output", "models/wuerstchen", "user/default"):
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes" / PACK).symlink_to(Path(__file__).parents[2], target_is_directory=True)
    settings = {"Comfy.TutorialCompleted": True}
    (folder / "user/default/comfy.settings.json").write_text(json.dumps(settings), encoding="utf-8")


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Server]:
    """Run the ComfyUI of $COMFYUI_DIR for a `with` block.

    $COMFYUI_PYTHON is an interpreter with its requirements; without it, this one is used.

    Args:
        folder: Base directory of the server.
        arguments: Further arguments of ComfyUI's main.py.
    Raises:
        RuntimeError: The server did not start within 180 s.
    """
    python, port = os.environ.get("COMFYUI_PYTHON", sys.executable), _free_port()
    comfyui = os.environ["COMFYUI_DIR"]
    log = folder / "server.log"
    command = [python, "main.py", "--cpu", "--port", str(port), "--base-directory", str(folder), *arguments]
    environment = {"WUERSTCHEN_CACHE": str(folder / "cache"), **os.environ}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=comfyui, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{port}", folder, log, process.pid)
    try:
        until = time.monotonic() + 180
        while True:
            try:
                server.get("/system_stats")
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"ComfyUI did not start:\n{server.log[-3000:]}") from None
                time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
