"""A small stand-in for the hub of Hugging Face: it serves folders as repositories to huggingface_hub."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
BLOCK = 1 << 14


class Hub(ThreadingHTTPServer):
    """Server of the repositories in a folder.

    Attributes:
        folder: Folder with OWNER/NAME/ for each repository.
        pause: Seconds to wait after each 16 KB of a file.
        sent: Paths of the files that were asked for, in order.
    """

    daemon_threads = True

    def __init__(self, folder: Path, pause: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.pause = pause
        self.sent: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the other side's end."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        parts = [part for part in unquote(urlsplit(self.path).path).split("/") if part]
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4])
        else:
            self._file("/".join(parts[:2]), "/".join(parts[4:]), body)

    def _api(self, repo: str, what: str) -> None:
        folder = self.server.folder / repo
        if not folder.is_dir():
            self._answer(404, b"{}")
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        if what == "tree":
            listing = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
                for name, path in zip(names, files, strict=True)
            ]
            self._answer(200, json.dumps(listing).encode())
        else:
            told = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            self._answer(200, json.dumps(told).encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, repo: str, name: str, body: bool) -> None:
        path = self.server.folder / repo / name
        if not path.is_file():
            self._answer(404, b"")
            return
        self.send_response(200)
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        if not body:
            return
        self.server.sent.append(f"{repo}/{name}")
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                try:
                    self.wfile.write(block)
                except OSError:  # the other side has stopped
                    self.close_connection = True
                    return
                time.sleep(self.server.pause)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serving(folder: Path, pause: float = 0.0) -> Iterator[Hub]:
    """Serve the repositories in a folder for as long as the context lasts; `HF_ENDPOINT` takes its url."""
    with Hub(folder, pause) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
