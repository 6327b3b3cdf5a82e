"""Documents of the editor as typed objects. Versions 0.4 and 1.0 write links differently and are read alike."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, FailFast, Field, ValidationError

from wuerstchen_core.errors import WorkflowError

NodeId = Annotated[int, Field(ge=-(2**53), le=2**53)] | Annotated[str, Field(max_length=200)]
"""Id of a node: a whole number that JavaScript holds, or a short text, since ids in subgraphs are joined."""
MAX_NAME = 1000
"""Most characters of a class."""
ClassName = Annotated[str, Field(max_length=MAX_NAME)]
"""Class of a node, or the id of a subgraph."""
MUTED, BYPASSED = 2, 4
"""Values of a node's `mode` that exclude it from a run."""
_LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def _list_or_nothing(value: Any) -> Any:
    return [] if value is None else value


def _read_link(value: Any) -> Any:
    return dict(zip(_LINK_FIELDS, value, strict=False)) if isinstance(value, list) else value


def _read_links(value: Any) -> Any:
    """Return links as a list, from a list or an object keyed by id; deleted ones may be null."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return [link for link in value if link is not None] if isinstance(value, list) else _list_or_nothing(value)


class WidgetName(BaseModel):
    """Reference to a field by its name."""

    name: str


class Socket(BaseModel):
    """Input slot, or (without `link`) output slot.

    Attributes:
        name: Name of the slot.
        type: Type of the slot.
        link: Id of the link into it; None where nothing is connected.
        widget: Field that the slot stands for.
    """

    name: str = ""
    type: Any = None
    link: int | None = None
    widget: WidgetName | None = None


Sockets = Annotated[list[Socket], FailFast(), BeforeValidator(_list_or_nothing)]


class Link(BaseModel):
    """Link from output `origin_slot` of one node to input `target_slot` of another."""

    id: int
    origin_id: NodeId
    origin_slot: int
    target_id: NodeId
    target_slot: int
    type: Any = None


class Node(BaseModel):
    """Node of a document.

    Attributes:
        id: Id within its graph.
        type: Class of the node, or the id of a subgraph.
        title: Title that a person gave it.
        mode: 0 for a node that runs, MUTED or BYPASSED for one that does not.
        inputs: Input slots.
        outputs: Output slots.
        widgets_values: Values of its fields, in order or by name.
        properties: Further properties, such as its pack.
    """

    id: NodeId
    type: ClassName
    title: str | None = None
    mode: int = 0
    inputs: Sockets = Field(default_factory=list)
    outputs: Sockets = Field(default_factory=list)
    widgets_values: list[Any] | dict[str, Any] | None = None
    properties: dict[str, Any] = Field(default_factory=dict)

    @property
    def pack(self) -> str | None:
        """Return the node pack that the file names for this node."""
        found = self.properties.get("cnr_id") or self.properties.get("aux_id")
        return str(found) if found else None


Nodes = Annotated[list[Node], FailFast()]
Links = Annotated[list[Annotated[Link, BeforeValidator(_read_link)]], FailFast(), BeforeValidator(_read_links)]


class Subgraph(BaseModel):
    """Graph that a node stands for. Links inside reach its boundary as nodes -10 (inputs) and -20 (outputs)."""

    id: str
    name: str = ""
    nodes: Nodes = Field(default_factory=list)
    links: Links = Field(default_factory=list)
    inputs: Sockets = Field(default_factory=list)
    outputs: Sockets = Field(default_factory=list)


class Definitions(BaseModel):
    """Subgraphs that a document defines."""

    subgraphs: Annotated[list[Subgraph], FailFast(), BeforeValidator(_list_or_nothing)] = Field(default_factory=list)


class Document(BaseModel):
    """Whole document of the editor."""

    nodes: Nodes
    links: Links = Field(default_factory=list)
    definitions: Definitions = Field(default_factory=Definitions)


def read_document(editor: Mapping[str, Any], name: str) -> Document:
    """Check and read an editor document.

    Args:
        editor: The document as parsed JSON.
        name: Name of the file, for messages.
    Raises:
        WorkflowError: An entry has the wrong shape; the message names the first.
    """
    try:
        return Document.model_validate(editor)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the top"
        raise WorkflowError(
            f"{name}: {where} is {str(first['input'])[:60]!r}: {first['msg']}. "
            "The file is damaged or not from the editor; save it again from the editor."
        ) from error
