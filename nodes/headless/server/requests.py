"""Requests to a server that may misbehave: bounded in time and in the size of the answer, and sent to it alone."""

import logging
import re
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wuerstchen_core.files.untrusted import MAX_TEXT_BYTES, size_text

from ..errors import BackendError, UsageError
from ..extras import require

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8188"
CONNECT_SECONDS = 4.0
"""Seconds that a connection may take to each address of the server; a name has two as a rule."""
ANSWER_SECONDS = 60.0
"""Seconds that a request and its answer may take in all. A server that loads a large model is silent for as long."""
FILE_SECONDS = 600.0
"""Seconds that an upload or a download may take in all."""
CANCEL_SECONDS = 3.0
"""Seconds that each request may take after an interruption."""
NOTICE_SECONDS = 5.0
"""Seconds after which a line says that an answer is waited for."""
MAX_FILE_BYTES = 256 * 2**20
"""Largest file that is fetched."""
MAX_URL = 2000
"""Most characters of a server's URL."""

_HOST = re.compile(r"[\w.:-]+", re.ASCII)
"""A name, or an address of either kind."""
_log = logging.getLogger(__name__)


class StatusError(BackendError):
    """The server answers with a status that says that the request failed.

    Attributes:
        status: The status, such as 404.
        content: Content of the answer.
    """

    def __init__(self, message: str, status: int, content: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.content = content


def line(text: str, most: int = 500) -> str:
    """Return a text of a server as a part of one line: without control characters, and cut where it is long."""
    # The text is cut before anything else looks at all of it, since it may have millions of characters.
    plain = " ".join("".join(each if each.isprintable() else " " for each in text[: 2 * most]).split())
    return plain if len(plain) <= most and len(text) <= 2 * most else f"{plain[:most]} ..."


def checked_url(url: str) -> str:
    """Return the URL of a server, without a slash at the end.

    Raises:
        UsageError: It is not an http or https URL of a host, or has more in it than a host, a port and a path.
    """
    import httpx

    expected = f"expected a URL such as {DEFAULT_URL}."
    if len(url) > MAX_URL:
        raise UsageError(f"--server has {len(url)} characters; {expected}")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        host.encode("idna")  # as for the look-up of its address
        fits = _HOST.fullmatch(host) and len(host) < 254 and (parsed.port is None or 0 < parsed.port < 2**16)
    except (httpx.InvalidURL, ValueError):
        raise UsageError(f"--server is {line(ascii(url))}; {expected}") from None
    if parsed.userinfo:
        raise UsageError(f"--server has a user or a password in it, which ComfyUI does not know; {expected}")
    is_plain = url.isprintable() and not set(url) & set(" ?#\\")
    if parsed.scheme not in ("http", "https") or not fits or not is_plain:
        raise UsageError(f"--server is {line(ascii(url))}; {expected}")
    return str(parsed).rstrip("/")


class Requests:
    """Sends requests to one server.

    Args:
        url: URL of the server, as `checked_url` returns it.
        transport: Transport of the requests, for tests; None for the network. No proxy is used.
    """

    def __init__(self, url: str, transport: "httpx.BaseTransport | None" = None) -> None:
        require("httpx", "comfyui")
        import ssl

        import httpx

        is_secure = url.startswith("https")
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            transport=transport,
            limits=httpx.Limits(max_keepalive_connections=0),  # requests are far apart, and nothing stays open
            headers={"Accept-Encoding": "identity"},  # a compressed answer may be a thousand times its size
            trust_env=False,
            follow_redirects=False,  # they may lead anywhere
            # The system's certificates, as for the websocket; reading them takes a while.
            verify=ssl.create_default_context() if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def send(
        self, method: str, path: str, *, most: int = MAX_TEXT_BYTES, seconds: float | None = None, **options: Any
    ) -> bytes:
        """Send a request and return the content of the answer.

        Args:
            method: HTTP method.
            path: Path below the server's URL.
            most: Most bytes of the answer.
            seconds: Seconds for the request and the answer; None for ANSWER_SECONDS.
            options: Content of the request, as for httpx.
        Raises:
            StatusError: The status says that the request failed.
            BackendError: The server cannot be reached, or the answer is too large, too slow, or no HTTP.
        """
        import httpx

        seconds = ANSWER_SECONDS if seconds is None else seconds
        timeout = httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        with _Deadline(f"{self._url}{path}", seconds) as deadline:
            try:
                request = self._http.build_request(
                    method, path, timeout=timeout, extensions={"trace": deadline.trace}, **options
                )
                response = self._http.send(request, stream=True)
                try:
                    content = self._content(response, path, most)
                finally:
                    response.close()
                if deadline.has_passed:  # an answer of unknown length looks complete where it was ended
                    raise httpx.ReadTimeout("")
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                if deadline.has_passed or isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout)):
                    raise BackendError(
                        f"{self._url}{path} did not answer in full within {seconds:g} s; expected a ComfyUI server "
                        "there. Look at the server."
                    ) from error
                reason = line(str(error), 200).rstrip(".") or type(error).__name__
                raise BackendError(
                    f"No ComfyUI server can be reached at {self._url}: {reason}. "
                    "Start it, or name another with --server."
                ) from error
        self._check_status(response, path, content)
        return content

    def _content(self, response: "httpx.Response", path: str, most: int) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise BackendError(
                f"{self._url}{path} answers in the encoding {line(encoding, 40)!r}, which was not asked for; "
                "expected a ComfyUI server there."
            )
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > most:
                raise BackendError(
                    f"{self._url}{path} answers with more than {size_text(most)}; expected a ComfyUI server there."
                )
        return bytes(content)

    def _check_status(self, response: "httpx.Response", path: str, content: bytes) -> None:
        if response.status_code == 200:  # ComfyUI uses no other that says yes; 206 is a part of a file
            return
        status = f"{response.status_code} {line(response.reason_phrase, 100)}".strip()
        message = f"{self._url}{path} answers {status}; expected a ComfyUI server there."
        if response.has_redirect_location:
            place = line(ascii(response.headers["Location"]), 200)
            message = f"{self._url}{path} answers {status} and names {place}; give the server's own URL with --server."
        raise StatusError(message, response.status_code, content)


class _Deadline:
    """Ends a request that takes too long, as a `with` block.

    A time-out of each read does not do, since a server may send a byte at a time.

    Args:
        what: What is asked, for messages.
        seconds: Seconds until the end.
    Attributes:
        has_passed: Whether the request was ended.
    """

    def __init__(self, what: str, seconds: float) -> None:
        self.has_passed = False
        self._what, self._seconds = what, seconds
        self._done = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Deadline":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of the connection of the request. Called by httpx."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._stream = info["return_value"]
            if self.has_passed:
                self._close()

    def _watch(self) -> None:
        notice = min(NOTICE_SECONDS, self._seconds)
        if self._done.wait(notice):
            return
        if notice < self._seconds:
            _log.info("Waiting for %s to answer", self._what)
        if not self._done.wait(self._seconds - notice):
            self.has_passed = True
            self._close()

    def _close(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # it is closed already
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
