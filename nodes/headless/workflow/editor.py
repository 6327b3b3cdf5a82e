"""The editor's document as typed objects. Versions 0.4 and 1.0 differ in how a link is written; here they are one."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from wuerstchen_core.errors import WorkflowError

NodeId = int | str
MUTED, BYPASSED = 2, 4
"""Values of a node's `mode` that keep it from running."""
_LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def _list_or_nothing(value: Any) -> Any:
    return [] if value is None else value


def _read_link(value: Any) -> Any:
    return dict(zip(_LINK_FIELDS, value, strict=False)) if isinstance(value, list) else value


def _read_links(value: Any) -> Any:
    """Links as a list or an object keyed by id; deleted ones may be null."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return [link for link in value if link is not None] if isinstance(value, list) else _list_or_nothing(value)


class WidgetName(BaseModel):
    name: str


class Socket(BaseModel):
    """An input slot, or (without `link`) an output slot. `widget` names the field that the slot stands for."""

    name: str = ""
    type: Any = None
    link: int | None = None
    widget: WidgetName | None = None


class Link(BaseModel):
    """From output `origin_slot` of one node to input `target_slot` of another."""

    id: int
    origin_id: NodeId
    origin_slot: int
    target_id: NodeId
    target_slot: int
    type: Any = None


class Node(BaseModel):
    id: NodeId
    type: str
    title: str | None = None
    mode: int = 0
    inputs: Annotated[list[Socket], BeforeValidator(_list_or_nothing)] = Field(default_factory=list)
    outputs: Annotated[list[Socket], BeforeValidator(_list_or_nothing)] = Field(default_factory=list)
    widgets_values: list[Any] | dict[str, Any] | None = None
    properties: dict[str, Any] = Field(default_factory=dict)

    @property
    def pack(self) -> str | None:
        """The node pack that the file says this node is from."""
        found = self.properties.get("cnr_id") or self.properties.get("aux_id")
        return str(found) if found else None


Links = Annotated[list[Annotated[Link, BeforeValidator(_read_link)]], BeforeValidator(_read_links)]


class Subgraph(BaseModel):
    """A node that is itself a graph. Links reach its boundary as nodes -10 (inputs) and -20 (outputs)."""

    id: str
    name: str = ""
    nodes: list[Node] = Field(default_factory=list)
    links: Links = Field(default_factory=list)
    inputs: Annotated[list[Socket], BeforeValidator(_list_or_nothing)] = Field(default_factory=list)
    outputs: Annotated[list[Socket], BeforeValidator(_list_or_nothing)] = Field(default_factory=list)


class Definitions(BaseModel):
    subgraphs: Annotated[list[Subgraph], BeforeValidator(_list_or_nothing)] = Field(default_factory=list)


class Document(BaseModel):
    nodes: list[Node]
    links: Links = Field(default_factory=list)
    definitions: Definitions = Field(default_factory=Definitions)


def read_document(editor: Mapping[str, Any], name: str) -> Document:
    """Check and read an editor document. Raises: WorkflowError that names the first entry of the wrong shape."""
    try:
        return Document.model_validate(editor)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the top"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise WorkflowError(
            f"{name}: {where} is {str(first['input'])[:60]!r}: {first['msg']}{more}. "
            "The file is damaged or not from the editor; save it again from the editor."
        ) from error
