"""Client of a running ComfyUI server: requests, uploads and events."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, InvalidWorkflowError, UsageError
from ..extras import require

if TYPE_CHECKING:
    import httpx
    from websockets.sync.client import ClientConnection

DEFAULT_URL = "http://127.0.0.1:8188"
_TIMEOUT = 60
"""Seconds that a request may take."""
_QUIET_SECONDS = 5
"""Seconds without an event after which the history is asked, as an event may have been missed."""
_ATTEMPTS = 5
"""Broken websocket connections in a row after which a run is given up."""
_LAST_EVENTS = ("execution_success", "execution_error", "execution_interrupted")

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called with the type and the data of an event of the websocket."""


class Server:
    """A ComfyUI server.

    Attributes:
        url: URL of the server, without a slash at the end.
        client_id: Id under which the server sends events to this client.

    Args:
        url: URL of the server, such as http://127.0.0.1:8188.
        transport: Transport of the HTTP requests, for tests; None for the network. No proxy is used.
    Raises:
        UsageError: `url` is not an http or https URL, or httpx is not installed.
    """

    def __init__(self, url: str = DEFAULT_URL, transport: "httpx.BaseTransport | None" = None) -> None:
        require("httpx", "comfyui")
        import ssl

        import httpx

        try:
            parsed = httpx.URL(url)
            is_valid = parsed.scheme in ("http", "https") and parsed.host != ""
        except httpx.InvalidURL:
            is_valid = False
        if not is_valid:
            raise UsageError(f"--server is {url!r}; expected a URL such as {DEFAULT_URL}.")
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self._http = httpx.Client(
            base_url=self.url,
            transport=transport,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_keepalive_connections=0),  # requests are far apart, and nothing stays open
            trust_env=False,
            follow_redirects=True,
            verify=ssl.create_default_context(),  # the system's certificates, as for the websocket
        )

    def object_info(self) -> dict[str, Any]:
        """Return the descriptions of the server's node classes, by id."""
        return self._get_json("/object_info")

    def upload(self, path: Path) -> str:
        """Upload a file to the server's input folder and return the name to load it by.

        The server keeps one copy of files with the same name and content.
        """
        with path.open("rb") as file:
            saved = self._json(self._request("POST", "/upload/image", files={"image": (path.name, file)}))
        return "/".join(part for part in (saved.get("subfolder"), saved["name"]) if part)

    def submit(self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None) -> str:
        """Queue a prompt and return its id.

        Args:
            prompt: Workflow in the API format.
            extra_pnginfo: Metadata that saved files carry beside the prompt; None for none.
        Raises:
            InvalidWorkflowError: The server refuses the prompt, or one of its outputs.
            BackendError: The server cannot be reached.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if extra_pnginfo is not None:
            body["extra_data"] = {"extra_pnginfo": extra_pnginfo}
        try:
            answer = self._json(self._post("/prompt", body))
        except _RefusedError as refusal:
            answer = refusal.answer
        errors = answer.get("node_errors") or {}
        if "prompt_id" in answer and not errors:
            return answer["prompt_id"]
        if "prompt_id" in answer:  # the server would run the valid outputs alone; a run here refuses them all
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
        """Remove a prompt from the queue, and interrupt it if it runs.

        Raises:
            BackendError: The server cannot be reached.
        """
        self._post("/queue", {"delete": [prompt_id]})
        self._post("/interrupt", {"prompt_id": prompt_id})

    def result(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the history of a prompt, {"outputs", "status", ...}, or None before it has ended."""
        return self._get_json(f"/history/{prompt_id}").get(prompt_id)

    def run(
        self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None, on_event: OnEvent
    ) -> dict[str, Any]:
        """Queue a prompt, wait for its end and return its history. An exception on the way cancels the prompt.

        Args:
            prompt: Workflow in the API format.
            extra_pnginfo: Metadata that saved files carry beside the prompt; None for none.
            on_event: Called with each event of this prompt.
        Raises:
            InvalidWorkflowError: The server refuses the prompt, or one of its outputs.
            BackendError: The server cannot be reached any more, or no longer knows the prompt.
        """
        prompt_id: str | None = None
        failures = 0
        received: set[str] = set()

        def receive(kind: str, data: dict[str, Any]) -> None:
            nonlocal failures
            failures = 0
            received.add(kind)
            on_event(kind, data)

        try:
            while True:
                try:
                    with _connect(self.url, self.client_id) as connection:
                        prompt_id = prompt_id or self.submit(prompt, extra_pnginfo)
                        history = self._follow(connection, prompt_id, receive)
                    break
                except _ConnectionLostError as error:
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
        for kind, data in history["status"]["messages"]:  # events that were missed
            if kind not in received:
                on_event(kind, data)
        return history

    def _follow(self, connection: "ClientConnection", prompt_id: str, on_event: OnEvent) -> dict[str, Any]:
        """Pass on the events of a prompt until it has ended, and return its history."""
        # Events are read before the history is asked: a short prompt may already be in the history by then.
        ended = _pass_on_events(connection, prompt_id, on_event)
        while (history := self.result(prompt_id)) is None:
            self._check_queued(prompt_id)
            if ended:
                time.sleep(0.05)  # the server writes the history just after the last event
            else:
                ended = _pass_on_events(connection, prompt_id, on_event)
        return history

    def fetch(self, file: Mapping[str, Any]) -> bytes:
        """Return the content of a file that a node shows.

        Args:
            file: {"filename", "subfolder", "type"}, as ComfyUI names files.
        Raises:
            BackendError: The server no longer has it, or cannot be reached.
        """
        query = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
        try:
            return self._request("GET", "/view", params=query).content
        except _NotFoundError as error:
            raise BackendError(
                f"{self.url} no longer has {query['filename']}, which an earlier run saved; the server does not run "
                "a node again for the same inputs. Change an input, such as a seed, or clear the server's cache."
            ) from error

    def _check_queued(self, prompt_id: str) -> None:
        queue = self._get_json("/queue")
        known = [item[1] for item in [*queue.get("queue_running", []), *queue.get("queue_pending", [])]]
        if prompt_id not in known and self.result(prompt_id) is None:
            raise BackendError(f"{self.url} dropped the prompt: it was taken out of its queue, or it was restarted.")

    def _get_json(self, path: str) -> Any:
        return self._json(self._request("GET", path))

    def _json(self, response: "httpx.Response") -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise BackendError(f"{response.url} answers with no JSON; expected a ComfyUI server there.") from error

    def _post(self, path: str, body: Mapping[str, Any]) -> "httpx.Response":
        # Not httpx's json=, which refuses NaN and infinity; ComfyUI reads them.
        return self._request("POST", path, content=json.dumps(body), headers={"Content-Type": "application/json"})

    def _request(self, method: str, path: str, **options: Any) -> "httpx.Response":
        """Send a request and return a successful response; any other raises a BackendError."""
        import httpx

        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise BackendError(
                f"No ComfyUI server can be reached at {self.url}: {reason}. Start it, or name another with --server."
            ) from error
        if response.is_success:
            return response
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" in answer:
            raise _RefusedError(answer)
        failure = _NotFoundError if response.status_code == httpx.codes.NOT_FOUND else BackendError
        raise failure(
            f"{response.url} answers {response.status_code} {response.reason_phrase}; expected a ComfyUI server there."
        )


class _ConnectionLostError(Exception):
    """The websocket cannot be opened, or broke."""


class _NotFoundError(BackendError):
    """The server answers 404."""


class _RefusedError(BackendError):
    """The server answers an error in ComfyUI's own shape, {"error": ..., "node_errors": ...}."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"The server refuses the request: {answer['error']}")
        self.answer = answer


@contextmanager
def _connect(url: str, client_id: str) -> "Iterator[ClientConnection]":
    """Open the server's websocket for a `with` block. Raises _ConnectionLostError."""
    require("websockets", "comfyui")
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    try:
        connection = connect(f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}", max_size=None, proxy=None)
    except (OSError, WebSocketException) as error:
        raise _ConnectionLostError(str(error)) from error
    with connection:
        yield connection


def _pass_on_events(connection: "ClientConnection", prompt_id: str, on_event: OnEvent) -> bool:
    """Pass on events of a prompt; return True after its last one, False after `_QUIET_SECONDS` without a message."""
    from websockets.exceptions import WebSocketException

    while True:
        try:
            message = connection.recv(timeout=_QUIET_SECONDS)
        except TimeoutError:
            return False
        except (OSError, WebSocketException) as error:
            raise _ConnectionLostError(str(error)) from error
        if isinstance(message, bytes):  # a preview
            continue
        event = json.loads(message)
        data = event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            continue
        on_event(event["type"], data)
        if event["type"] in _LAST_EVENTS:
            return True
