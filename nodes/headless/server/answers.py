"""Answers and events of a ComfyUI server as typed objects. Whatever else a server sends is a BackendError."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wuerstchen_core.files.untrusted import parse_json

from ..errors import BackendError
from .requests import line

EVENTS = frozenset(
    {
        *("execution_start", "execution_cached", "executing", "executed", "progress"),
        *("execution_success", "execution_error", "execution_interrupted"),
    }
)
"""Types of the events of a run. Node packs send others, of any shape."""
_MOST_NODES, _MOST_FAULTS = 10, 3
"""Most nodes of a refused workflow that are reported, and most errors of each."""


class Answer(BaseModel):
    """Base of the answers. Further keys are left out."""

    model_config = ConfigDict(strict=True)


Read = TypeVar("Read", bound=Answer)


def _check_node_id(text: str) -> str:
    if not text.isprintable() or len(text) > 200:
        raise ValueError("expected the id of a node")
    return text


NodeId = Annotated[str, AfterValidator(_check_node_id)]


class Uploaded(Answer):
    """Answer at /upload/image.

    Attributes:
        name: Name of the file on the server.
        subfolder: Folder of the file, below the input folder.
    """

    name: str = Field(min_length=1)
    subfolder: str | None = None


class Fault(Answer):
    """Error of a workflow or of one of its nodes."""

    message: str
    details: str = ""


class NodeFaults(Answer):
    """Errors of one node."""

    class_type: str
    errors: list[Fault]


class Submitted(Answer):
    """Answer at /prompt.

    Attributes:
        prompt_id: Id of the prompt. It becomes a part of a URL.
        error: Error of the workflow; None where the server takes at least a part of it.
        node_errors: {node id: its errors}.
    """

    prompt_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,100}$")
    error: Fault | None = None
    node_errors: dict[str, NodeFaults] | None = None


class Event(Answer):
    """Data of an event of one of the types in `EVENTS`; each type has some of the fields.

    Attributes:
        prompt_id: Id of the prompt.
        node: Id of a node, as most events name it.
        nodes: Ids of the nodes that the server does not run.
        output: What an output node shows.
        value: Steps that are done.
        max: Steps in all.
        node_id: Id of a node, as the events of a failure name it.
        node_type: Class of that node.
        exception_type: Class of the error.
        exception_message: Text of the error.
    """

    prompt_id: str | None = None
    node: NodeId | None = None
    nodes: list[NodeId] = Field(default_factory=list)
    output: dict[str, Any] | None = None
    value: float = 0
    max: float = 0
    node_id: NodeId = ""
    node_type: str = ""
    exception_type: str | None = None
    exception_message: str = ""


def _check_message(message: list[Any]) -> list[Any]:
    if len(message) != 2 or not isinstance(message[0], str):
        raise ValueError("expected [type of the event, its data]")
    return message


class Status(Answer):
    """Part of a history: the events of the run."""

    messages: list[Annotated[list[Any], AfterValidator(_check_message)]]


class History(Answer):
    """History of a prompt that has ended.

    Attributes:
        outputs: {output node id: what it shows}.
        status: Events of the run.
    """

    outputs: dict[NodeId, dict[str, Any] | None]
    status: Status | None = None

    def events(self) -> list[tuple[str, Event]]:
        """Return the events of the run as (type, data). Raises: BackendError, where one has a wrong shape."""
        messages = self.status.messages if self.status else []
        return [(kind, checked(Event, data, "the history")) for kind, data in messages if kind in EVENTS]


def _check_item(item: list[Any]) -> list[Any]:
    if len(item) < 2 or not isinstance(item[1], str):
        raise ValueError("expected [number, id of the prompt, ...]")
    return item


class Queue(Answer):
    """Answer at /queue."""

    queue_running: list[Annotated[list[Any], AfterValidator(_check_item)]]
    queue_pending: list[Annotated[list[Any], AfterValidator(_check_item)]]

    def ids(self) -> set[str]:
        """Return the ids of the prompts that run or wait."""
        return {item[1] for item in (*self.queue_running, *self.queue_pending)}


def parsed(content: bytes | str, where: str) -> dict[str, Any]:
    """Return the JSON object that a server sends.

    Args:
        content: What it sends.
        where: The server and what it was asked, for messages.
    Raises:
        BackendError: It is no JSON, or no object.
    """
    try:
        answer = parse_json(content if isinstance(content, str) else content.decode("utf-8"))
    except ValueError as error:
        raise _wrong(where, f"no JSON that can be read: {error}") from error
    if not isinstance(answer, dict):
        raise _wrong(where, f"{type(answer).__name__} instead of an object")
    return answer


def checked(model: type[Read], answer: Any, where: str) -> Read:
    """Return an answer as a typed object.

    Args:
        model: Shape of the answer.
        answer: The answer as parsed JSON.
        where: The server and what it was asked, for messages.
    Raises:
        BackendError: It has another shape; the message names the first difference.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _wrong(where, f"a wrong shape: {line(place, 100)}: {first['msg']}") from error


def read(model: type[Read], content: bytes, where: str) -> Read:
    """Return the answer that a server sends as a typed object. Raises: BackendError, as `parsed` and `checked`."""
    return checked(model, parsed(content, where), where)


def node_errors_of(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the first `node_errors` of an answer that was checked as `Submitted`, with texts of one line each."""
    entries: dict[str, Any] = answer.get("node_errors") or {}
    return {
        node_id: {
            **entry,
            "class_type": line(entry["class_type"], 100),
            "errors": [
                {**error, "message": line(error["message"], 200), "details": line(error.get("details", ""), 300)}
                for error in entry["errors"][:_MOST_FAULTS]
            ],
        }
        for node_id, entry in list(entries.items())[:_MOST_NODES]
    }


def _wrong(where: str, what: str) -> BackendError:
    return BackendError(f"{where} answers with {line(what, 300)}; expected a ComfyUI server there.")
