"""A running ComfyUI server, as far as running a workflow on it needs: requests, uploads, and its events."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import BackendError, InvalidWorkflowError, UsageError
from ..extras import require

DEFAULT_URL = "http://127.0.0.1:8188"
_SECONDS = 60
_QUIET_SECONDS = 5
"""After so long without an event, the server's history is asked, for an event may have been missed."""
_ATTEMPTS = 5


class Server:
    """One server.

    Args:
        url: where it listens, such as http://127.0.0.1:8188.
    Raises:
        UsageError: that is no URL.
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(f"--server is {url!r}; expected a URL such as {DEFAULT_URL}.")
        self.url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.client_id = uuid.uuid4().hex

    def object_info(self) -> dict[str, Any]:
        """What the server's node classes say of themselves, by id."""
        return self._json("GET", "/object_info")

    def upload(self, path: Path) -> str:
        """Put a file into the server's input folder, unless the same is there; the name to load it by."""
        boundary = uuid.uuid4().hex
        name = path.name.replace('"', "_").replace("\r", "_").replace("\n", "_")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = self._json("POST", "/upload/image", body, f"multipart/form-data; boundary={boundary}")
        return "/".join(part for part in (answer.get("subfolder"), answer["name"]) if part)

    def submit(self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None) -> str:
        """Queue a prompt; its id.

        Raises:
            InvalidWorkflowError: the server refuses it, or a part of it.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if extra_pnginfo is not None:
            body["extra_data"] = {"extra_pnginfo": extra_pnginfo}
        try:
            answer = self._json("POST", "/prompt", json.dumps(body).encode())
        except _RefusedError as refusal:
            answer = refusal.answer
        errors = answer.get("node_errors") or {}
        if "prompt_id" in answer and not errors:
            return answer["prompt_id"]
        if "prompt_id" in answer:  # the server runs what is left of it, which nobody asked for
            self.cancel(answer["prompt_id"])
        for node_id, entry in errors.items():
            meta = prompt.get(node_id, {}).get("_meta") or {}
            entry["title"] = meta.get("title") or entry["class_type"]
        if errors:
            raise InvalidWorkflowError.of_nodes(errors)
        error = answer.get("error") or {}
        message = f"The server refuses the workflow: {error.get('message')}: {error.get('details')}"
        raise InvalidWorkflowError(message, error)

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, and stop it where it runs."""
        self._request("POST", "/queue", json.dumps({"delete": [prompt_id]}).encode())
        self._request("POST", "/interrupt", json.dumps({"prompt_id": prompt_id}).encode())

    def result(self, prompt_id: str) -> dict[str, Any] | None:
        """The history of a prompt: {"outputs", "status", ...}; None while it has not ended."""
        return self._json("GET", f"/history/{prompt_id}").get(prompt_id)

    def run(
        self,
        prompt: Mapping[str, Any],
        extra_pnginfo: Mapping[str, Any] | None,
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Queue a prompt and wait for its end; its history. Interrupted, it is taken back.

        Args:
            on_event: told of each event of this prompt: its type and its data, as the server's page is.
        Raises:
            InvalidWorkflowError: the server refuses it, or a part of it.
            BackendError: the server went away, or no longer knows the prompt.
        """
        prompt_id: str | None = None
        failures = 0
        heard: set[str] = set()

        def hear(kind: str, data: dict[str, Any]) -> None:
            nonlocal failures
            failures = 0
            heard.add(kind)
            on_event(kind, data)

        try:
            while True:
                try:
                    with _connected(self.url, self.client_id) as socket:
                        prompt_id = prompt_id or self.submit(prompt, extra_pnginfo)
                        history = self._follow(socket, prompt_id, hear)
                    break
                except _LostError as error:
                    failures += 1
                    if failures == _ATTEMPTS:
                        message = f"The connection to {self.url} broke: {error}. Look at the server."
                        raise BackendError(message) from error
                    time.sleep(failures)
        except BaseException:
            if prompt_id is not None:
                with suppress(BackendError):
                    self.cancel(prompt_id)
            raise
        for kind, data in history["status"]["messages"]:
            if kind not in heard:
                on_event(kind, data)
        return history

    def _follow(self, socket: Any, prompt_id: str, hear: Callable[[str, dict[str, Any]], None]) -> dict[str, Any]:
        """Pass on the events of a prompt until it has ended; its history."""
        # A prompt may have ended before its history is asked for the first time, so its events are read before that.
        ended = _listen(socket, prompt_id, hear)
        while (history := self.result(prompt_id)) is None:
            self._check_queued(prompt_id)
            if ended:
                time.sleep(0.05)  # the history is written just after the last event
            else:
                ended = _listen(socket, prompt_id, hear)
        return history

    def fetch(self, file: Mapping[str, Any]) -> bytes:
        """The content of a file that a node shows: {"filename", "subfolder", "type"}.

        Raises:
            BackendError: the server no longer has it, or went away.
        """
        query = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
        try:
            return self._request("GET", f"/view?{urllib.parse.urlencode(query)}")
        except _AbsentError as error:
            raise BackendError(
                f"{self.url} no longer has {query['filename']}, which it made earlier and would not make again for the "
                "same inputs. Change one, such as a seed, or let the server forget its results."
            ) from error

    def _check_queued(self, prompt_id: str) -> None:
        queue = self._json("GET", "/queue")
        known = [item[1] for item in [*queue.get("queue_running", []), *queue.get("queue_pending", [])]]
        if prompt_id not in known and self.result(prompt_id) is None:
            raise BackendError(f"{self.url} dropped the prompt: it was taken out of its queue, or it was restarted.")

    def _json(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        content = self._request(method, path, body, kind)
        try:
            return json.loads(content)
        except ValueError as error:
            raise BackendError(f"{self.url}{path} answers with no JSON; expected a ComfyUI server there.") from error

    def _request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        headers = {} if body is None else {"Content-Type": kind}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
            try:
                answer = json.loads(content)
            except ValueError:
                answer = None
            if isinstance(answer, dict) and "error" in answer:
                raise _RefusedError(answer) from error
            failure = _AbsentError if error.code == 404 else BackendError
            raise failure(
                f"{self.url}{path} answers {error.code} {error.reason}; expected a ComfyUI server there."
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise BackendError(
                f"No ComfyUI server can be reached at {self.url}: {reason}. Start it, or name another with --server."
            ) from error


class _LostError(Exception):
    """The connection over which events come broke."""


class _AbsentError(BackendError):
    """The server has no such thing."""


class _RefusedError(BackendError):
    """The server's answer is an error in its own shape."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"The server refuses the request: {answer['error']}")
        self.answer = answer


@contextmanager
def _connected(url: str, client_id: str) -> Iterator[Any]:
    """The server's events as they come. Raises: _LostError where there is no connection."""
    require("websockets", "comfyui")
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    try:
        socket = connect(f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}", max_size=None, proxy=None)
    except (OSError, WebSocketException) as error:
        raise _LostError(str(error)) from error
    with socket:
        yield socket


def _listen(socket: Any, prompt_id: str, on_event: Callable[[str, dict[str, Any]], None]) -> bool:
    """Pass events on until the prompt ends (True) or nothing comes for a while (False).

    Raises:
        _LostError: the connection broke.
    """
    from websockets.exceptions import WebSocketException

    while True:
        try:
            message = socket.recv(timeout=_QUIET_SECONDS)
        except TimeoutError:
            return False
        except (OSError, WebSocketException) as error:
            raise _LostError(str(error)) from error
        if isinstance(message, bytes):  # a preview
            continue
        event = json.loads(message)
        data = event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            continue
        on_event(event["type"], data)
        if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
            return True
