"""Read workflow files: the editor's format, the API format, or a PNG that carries one of them.

Node classes are not needed here; `convert` needs them to turn an editor document into the API format.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wuerstchen_core.errors import WorkflowError
from wuerstchen_core.files.untrusted import MAX_TEXT_BYTES, check_json, parse_json, read_bytes

from ..errors import UsageError
from .editor import MAX_NAME, Document, read_document
from .examples import locate
from .prompt import Prompt

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXPECTED = (
    'expected the editor\'s format ({"nodes": [...], "links": [...]}) or the API format '
    '({"1": {"class_type": "...", "inputs": {...}}}). Save it from the editor with Save or Export (API).'
)


@dataclass(frozen=True)
class Workflow:
    """A workflow as it was read. At least one of `editor` and `prompt` is given.

    Attributes:
        name: Name for messages.
        folder: Folder that files named by the workflow are looked up in first.
        editor: Document in the editor's format.
        prompt: The workflow in the API format.
    """

    name: str
    folder: Path
    editor: dict[str, Any] | None = None
    prompt: Prompt | None = None

    @cached_property
    def document(self) -> Document:
        """Parse the editor's document, once. Raises: WorkflowError where it is damaged."""
        return read_document(self.editor or {}, self.name)

    @property
    def extra_pnginfo(self) -> dict[str, Any] | None:
        """Return the metadata that saved files carry beside the prompt, as ComfyUI names it; None for none."""
        return None if self.editor is None else {"workflow": self.editor}


def load_workflow(source: str | os.PathLike[str] | Mapping[str, Any]) -> Workflow:
    """Read a workflow.

    Args:
        source: A JSON file in either format, a PNG saved by this program or ComfyUI, the name of an example, or a
            document parsed before.
    Raises:
        UsageError: There is no such file or example, or it cannot be opened.
        WorkflowError: The file is none of these.
    """
    if isinstance(source, Mapping):
        document = dict(source)
        try:
            check_json(document)
        except ValueError as error:
            raise WorkflowError(f"The workflow cannot be read: {error}; {_EXPECTED}") from error
        return _classify(document, "The workflow", Path.cwd())
    path = locate(source)
    data = _read(path)
    if data.startswith(_PNG_SIGNATURE):
        return _from_png(data, path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"{path} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x}) and not a PNG; {_EXPECTED}"
        ) from error
    return _classify(_parse(text, str(path)), str(path), path.parent)


def _parse(text: str, name: str) -> Any:
    """Parse JSON from a user.

    Raises:
        WorkflowError: It is damaged; the message gives the line and column.
    """
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise WorkflowError(
            f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; {_EXPECTED}"
        ) from error
    except ValueError as error:
        raise WorkflowError(f"{name} is not JSON that can be read: {error}; {_EXPECTED}") from error


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_TEXT_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EFBIG:
            raise WorkflowError(f"{path} is no workflow: {reason}; {_EXPECTED}") from error
        raise UsageError(f"{path} cannot be opened: {reason}. Give the path of a workflow .json or .png.") from error
    except ValueError as error:  # a null character in the path
        raise UsageError(f"{str(path)!r} is not a path: {error}. Give the path of a workflow .json or .png.") from error


def _from_png(data: bytes, path: Path) -> Workflow:
    from wuerstchen_core.files.pictures import read_picture

    try:
        found = {key: value for key, value in read_picture(data).info.items() if isinstance(value, str)}
    except ValueError as error:
        raise WorkflowError(f"{path} is a damaged PNG: {error}. Use the file as it was first saved.") from error
    parts = {key: _parse(found[key], f"{path} ({key})") for key in ("prompt", "workflow") if found.get(key)}
    if not parts:
        raise WorkflowError(
            f"{path} is a PNG without a workflow in it: it has no `prompt` and no `workflow` text. "
            "Other programs drop these when they save; use the file as it was first saved."
        )
    prompt = _classify(parts["prompt"], f"{path} (prompt)", path.parent).prompt if "prompt" in parts else None
    editor = _classify(parts["workflow"], f"{path} (workflow)", path.parent).editor if "workflow" in parts else None
    if prompt is None and editor is None:
        raise WorkflowError(f"{path}: its `prompt` and `workflow` texts are swapped; {_EXPECTED}")
    return Workflow(str(path), path.parent, editor, prompt)


def _classify(document: Any, name: str, folder: Path) -> Workflow:
    if not isinstance(document, dict):
        raise WorkflowError(f"{name} holds {_kind(document)} at the top; {_EXPECTED}")
    if isinstance(document.get("nodes"), list):
        return Workflow(name, folder, editor=document)
    if isinstance(document.get("prompt"), dict):  # the body of a request to a server
        document = document["prompt"]
    if not document:
        raise WorkflowError(f"{name} is empty; {_EXPECTED}")
    for key, node in document.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            got = f"an object without class_type (it has {_some(node)})" if isinstance(node, dict) else _kind(node)
            raise WorkflowError(f"{name}: entry {key!r} is {got}; {_EXPECTED}")
        if len(node["class_type"]) > MAX_NAME:
            raise WorkflowError(
                f"{name}: the class of node {key} has {len(node['class_type']):,} characters; expected at most "
                f"{MAX_NAME:,}. It is the name of a node, such as SaveImage."
            )
        if not isinstance(node.get("inputs", {}), dict):
            raise WorkflowError(f"{name}: the inputs of node {key} are {_kind(node['inputs'])}; expected an object.")
    return Workflow(name, folder, prompt={key: {"inputs": {}, **node} for key, node in document.items()})


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _some(node: dict[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(node)[:5]) or "nothing"
