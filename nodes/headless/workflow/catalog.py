"""The node classes that a workflow may use, and what each says of its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
SEED_NAMES = frozenset({"seed", "noise_seed"})


@dataclass(frozen=True)
class Input:
    """One entry of a node class's INPUT_TYPES.

    type: the socket's type; "COMBO" for a choice. choices: what a choice may be. options: the entry's dict.
    """

    name: str
    type: str
    required: bool
    options: Mapping[str, Any]
    choices: list[Any] | None = None

    @property
    def is_widget(self) -> bool:
        """Whether the editor shows a field for it (any other input takes a link only)."""
        return self.type in WIDGET_TYPES and not self.options.get("forceInput", False)

    @property
    def default(self) -> Any:
        """What the editor's field starts with."""
        if self.choices:
            return self.options.get("default", self.choices[0])
        return self.options.get("default", {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(self.type))

    @property
    def has_control(self) -> bool:
        """Whether the editor puts a `control_after_generate` field after it."""
        by_name = self.type == "INT" and self.name in SEED_NAMES
        return self.is_widget and bool(self.options.get("control_after_generate", by_name))

    @property
    def is_seed(self) -> bool:
        """Whether it says where noise starts."""
        return self.type == "INT" and "seed" in self.name


@dataclass(frozen=True)
class Catalog:
    """Node classes by id, and the names that people see.

    server: the ComfyUI server whose classes these are, in whose words alone they are known; "" for our own.
    """

    classes: Mapping[str, type]
    display_names: Mapping[str, str] = field(default_factory=dict)
    server: str = ""

    def inputs(self, class_type: str) -> dict[str, Input]:
        """The inputs of a class in the editor's order: required, then optional. Hidden ones are not among them."""
        declared = input_types(self.classes[class_type])
        return {
            name: _read_input(name, entry, category == "required")
            for category in ("required", "optional")
            for name, entry in declared.get(category, {}).items()
        }

    def return_types(self, class_type: str) -> tuple[Any, ...]:
        """The type of each output slot."""
        return tuple(getattr(self.classes[class_type], "RETURN_TYPES", ()))

    def is_output(self, class_type: str) -> bool:
        """Whether a run begins at nodes of this class."""
        return getattr(self.classes[class_type], "OUTPUT_NODE", False) is True

    def title(self, class_type: str) -> str:
        """The display name of a class."""
        return self.display_names.get(class_type, class_type)


def input_types(node_class: Any) -> Mapping[str, Mapping[str, Any]]:
    """What the class declares: {"required": {name: entry}, "optional": ..., "hidden": ...}."""
    return node_class.INPUT_TYPES()


def _read_input(name: str, entry: Any, required: bool) -> Input:
    kind, *rest = entry if isinstance(entry, (tuple, list)) else (entry,)
    options = rest[0] if rest and isinstance(rest[0], Mapping) else {}
    if isinstance(kind, (list, tuple)):
        return Input(name, "COMBO", required, options, list(kind))
    if kind == "COMBO":
        return Input(name, "COMBO", required, options, list(options.get("options", [])))
    return Input(name, kind, required, options)


def catalog_of_server(object_info: Mapping[str, Mapping[str, Any]], url: str) -> Catalog:
    """A server's nodes, for reading and setting workflows; their classes say what they take and give, and run nothing.

    Args:
        object_info: what the server answers at /object_info.
    """
    return Catalog(
        {name: _described(name, info) for name, info in object_info.items()},
        {name: info.get("display_name") or name for name, info in object_info.items()},
        url,
    )


def _described(name: str, info: Mapping[str, Any]) -> type:
    declared = info.get("input") or {}
    members = {
        "INPUT_TYPES": classmethod(lambda cls: declared),
        "RETURN_TYPES": tuple(info.get("output") or ()),
        "OUTPUT_NODE": info.get("output_node") is True,
    }
    return type(name, (), members)
