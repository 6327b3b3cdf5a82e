"""Client of a running ComfyUI server: what it is asked, and how a run is followed to its end."""

import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wuerstchen_core.files.untrusted import check_text, open_file

from ..errors import BackendError, InvalidWorkflowError, UsageError
from ..extras import require
from ..workflow.prompt import title_of
from . import requests
from .answers import Event, Fault, History, Queue, Submitted, Uploaded, checked, node_errors_of, parsed, read
from .events import ConnectionLostError, OnEvent, connect, pass_on_events
from .requests import DEFAULT_URL, Requests, StatusError, checked_url, line

if TYPE_CHECKING:
    import httpx
    from websockets.sync.client import ClientConnection

PAUSES = (1, 2, 3, 4)
"""Seconds before each attempt to open a broken websocket again; after the last one, the run is given up."""
MOST_BREAKS = 100
"""Most times that the websocket of a run may break, also with events in between."""
HISTORY_SECONDS = 30.0
"""Seconds that the server has to write the history after the last event."""


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
        self.url = checked_url(url)
        self.client_id = uuid.uuid4().hex
        self._requests = Requests(self.url, transport)

    def object_info(self) -> dict[str, Any]:
        """Return the descriptions of the server's node classes, by id."""
        return parsed(self._requests.send("GET", "/object_info"), f"{self.url}/object_info")

    def upload(self, path: Path) -> str:
        """Upload a file to the server's input folder and return the name to load it by.

        The server keeps one copy of files with the same name and content.

        Raises:
            UsageError: The file cannot be read.
            BackendError: The server cannot be reached, or does not say under which name it has the file.
        """
        try:
            check_text(path.name)
            with open_file(path) as file:
                answer = self._requests.send(
                    "POST", "/upload/image", seconds=requests.FILE_SECONDS, files={"image": (path.name, file)}
                )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"Cannot upload {str(path)!r}: {reason}. Name another file.") from error
        saved = read(Uploaded, answer, f"{self.url}/upload/image")
        return "/".join(part for part in (saved.subfolder, saved.name) if part)

    def submit(self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None) -> str:
        """Queue a prompt and return its id.

        Args:
            prompt: Workflow in the API format.
            extra_pnginfo: Metadata that saved files carry beside the prompt; None for none.
        Raises:
            InvalidWorkflowError: The server refuses the prompt, or one of its outputs.
            BackendError: The server cannot be reached, or answers wrongly.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if extra_pnginfo is not None:
            body["extra_data"] = {"extra_pnginfo": extra_pnginfo}
        where = f"{self.url}/prompt"
        refusal = None
        try:
            content = self._post("/prompt", body)
        except StatusError as error:
            if not error.content.lstrip().startswith(b"{"):
                raise
            refusal, content = error, error.content
        answer = parsed(content, where)
        submitted = checked(Submitted, answer, where)
        errors = node_errors_of(answer)
        if submitted.prompt_id is not None:
            if not errors and refusal is None:
                return submitted.prompt_id
            self.cancel(submitted.prompt_id)  # the server would run the valid outputs alone; a run here refuses all
        for node_id, entry in errors.items():
            entry["title"] = title_of(prompt, node_id) if node_id in prompt else entry["class_type"]
        if errors:
            raise InvalidWorkflowError.of_nodes(errors)
        if submitted.error is None:
            raise refusal or BackendError(f"{where} answers with no prompt_id; expected a ComfyUI server there.")
        raise InvalidWorkflowError(_refused(submitted.error), answer["error"])

    def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, and interrupt it if it runs.

        Raises:
            BackendError: The server cannot be reached.
        """
        self._post("/queue", {"delete": [prompt_id]}, requests.CANCEL_SECONDS)
        self._post("/interrupt", {"prompt_id": prompt_id}, requests.CANCEL_SECONDS)

    def result(self, prompt_id: str) -> History | None:
        """Return the history of a prompt, or None before it has ended."""
        where = f"{self.url}/history/{prompt_id}"
        history = parsed(self._requests.send("GET", f"/history/{prompt_id}"), where).get(prompt_id)
        return None if history is None else checked(History, history, where)

    def run(self, prompt: Mapping[str, Any], extra_pnginfo: Mapping[str, Any] | None, on_event: OnEvent) -> History:
        """Queue a prompt, wait for its end and return its history. An exception on the way cancels the prompt.

        Args:
            prompt: Workflow in the API format.
            extra_pnginfo: Metadata that saved files carry beside the prompt; None for none.
            on_event: Called with each event of this prompt.
        Raises:
            InvalidWorkflowError: The server refuses the prompt, or one of its outputs.
            BackendError: The server cannot be reached any more, answers wrongly, or no longer knows the prompt.
        """
        prompt_id: str | None = None
        received: set[str] = set()
        failures = breaks = 0

        def receive(kind: str, data: Event) -> None:
            nonlocal failures
            failures = 0
            received.add(kind)
            on_event(kind, data)

        try:
            while True:
                try:
                    with connect(self.url, self.client_id) as connection:
                        prompt_id = prompt_id or self.submit(prompt, extra_pnginfo)
                        history = self._follow(connection, prompt_id, receive)
                    break
                except ConnectionLostError as error:
                    if prompt_id is None or failures == len(PAUSES) or breaks == MOST_BREAKS:
                        message = f"The connection to {self.url} broke: {error}. Look at the server."
                        raise BackendError(message) from error
                    time.sleep(PAUSES[failures])
                    failures, breaks = failures + 1, breaks + 1
                    if self.result(prompt_id) is None:
                        self._check_queued(prompt_id)
        except BaseException:
            if prompt_id is not None:
                with suppress(BackendError):
                    self.cancel(prompt_id)
            raise
        for kind, data in history.events():  # events that were missed
            if kind not in received:
                on_event(kind, data)
        return history

    def _follow(self, connection: "ClientConnection", prompt_id: str, on_event: OnEvent) -> History:
        """Pass on the events of a prompt until it has ended, and return its history."""
        # Events are read before the history is asked: a short prompt may already be in the history by then.
        ended = False
        while not ended:
            ended = pass_on_events(connection, self.url, prompt_id, on_event)
            if (history := self.result(prompt_id)) is not None:
                return history
            self._check_queued(prompt_id)
        end = time.monotonic() + HISTORY_SECONDS
        while (history := self.result(prompt_id)) is None:  # the server writes it just after the last event
            if time.monotonic() > end:
                raise BackendError(
                    f"{self.url} says that the run has ended, but has no history of it {HISTORY_SECONDS:g} s later. "
                    "Look at the server."
                )
            self._check_queued(prompt_id)
            time.sleep(0.05)
        return history

    def fetch(self, file: Mapping[str, str]) -> bytes:
        """Return the content of a file that a node shows.

        Args:
            file: {"filename", "subfolder", "type"}, as ComfyUI names files.
        Raises:
            BackendError: The server no longer has it, or cannot be reached.
        """
        query = {key: file.get(key, "") for key in ("filename", "subfolder", "type")}
        try:
            return self._requests.send(
                "GET", "/view", most=requests.MAX_FILE_BYTES, seconds=requests.FILE_SECONDS, params=query
            )
        except StatusError as error:
            if error.status != 404:
                raise
            raise BackendError(
                f"{self.url} no longer has {query['filename']}, which an earlier run saved; the server does not run "
                "a node again for the same inputs. Change an input, such as a seed, or clear the server's cache."
            ) from error

    def _check_queued(self, prompt_id: str) -> None:
        queue = read(Queue, self._requests.send("GET", "/queue"), f"{self.url}/queue")
        if prompt_id not in queue.ids() and self.result(prompt_id) is None:
            raise BackendError(f"{self.url} dropped the prompt: it was taken out of its queue, or it was restarted.")

    def _post(self, path: str, body: Mapping[str, Any], seconds: float | None = None) -> bytes:
        # Not httpx's json=, which refuses NaN and infinity; ComfyUI reads them.
        return self._requests.send(
            "POST",
            path,
            seconds=seconds,
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )


def _refused(error: Fault) -> str:
    return f"The server refuses the workflow: {line(error.message)}: {line(error.details)}"
