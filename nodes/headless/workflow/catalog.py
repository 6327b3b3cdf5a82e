"""Node classes that a workflow may use, and the inputs and outputs that they declare."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ..errors import BackendError
from .limits import MAX_SOCKETS

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
SEED_NAMES = frozenset({"seed", "noise_seed"})
MAX_CLASSES = 20_000
"""Most node classes of a server. Each takes a few kilobytes of memory."""


@dataclass(frozen=True)
class Input:
    """One entry of a node class's INPUT_TYPES.

    Attributes:
        name: Name of the input.
        type: Type of the socket; "COMBO" for a choice.
        required: Whether a node cannot run without it.
        options: Options of the entry, such as "default" and "tooltip".
        choices: Allowed values of a choice; None for any other type.
    """

    name: str
    type: str
    required: bool
    options: Mapping[str, Any]
    choices: list[Any] | None = None

    @cached_property
    def is_widget(self) -> bool:
        """Return whether the editor shows a field for it. Any other input takes a link only."""
        return self.type in WIDGET_TYPES and not self.options.get("forceInput", False)

    @property
    def default(self) -> Any:
        """Return the initial value of the editor's field."""
        if self.choices:
            return self.options.get("default", self.choices[0])
        return self.options.get("default", {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(self.type))

    @property
    def has_control(self) -> bool:
        """Return whether the editor puts a `control_after_generate` field after it."""
        by_name = self.type == "INT" and self.name in SEED_NAMES
        return self.is_widget and bool(self.options.get("control_after_generate", by_name))

    @property
    def is_seed(self) -> bool:
        """Return whether it is a seed of random noise."""
        return self.type == "INT" and "seed" in self.name


@dataclass(frozen=True)
class Catalog:
    """Node classes by id, with the names that people see.

    A class is asked for its INPUT_TYPES once: choices such as model names then stay as they were. `reread` returns a
    catalog that asks again, which every run begins with.

    Attributes:
        classes: Node classes by id.
        display_names: Names that people see, by id.
        comfyui_only: Display names of nodes that exist, but only inside ComfyUI, by id.
        server: URL of the server these classes were read from; empty for local ones.
    """

    classes: Mapping[str, type]
    display_names: Mapping[str, str] = field(default_factory=dict)
    comfyui_only: Mapping[str, str] = field(default_factory=dict)
    server: str = ""
    _declared: dict[str, Mapping[str, Mapping[str, Any]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _inputs: dict[str, dict[str, Input]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def reread(self) -> "Catalog":
        """Return the same catalog, whose classes are asked for their inputs again."""
        return replace(self)

    def input_types(self, class_type: str) -> Mapping[str, Mapping[str, Any]]:
        """Return a class's INPUT_TYPES: {"required": {name: entry}, "optional": ..., "hidden": ...}."""
        if class_type not in self._declared:
            node_class: Any = self.classes[class_type]
            self._declared[class_type] = node_class.INPUT_TYPES()
        return self._declared[class_type]

    def inputs(self, class_type: str) -> dict[str, Input]:
        """Return the inputs of a class in the editor's order: required, then optional. Hidden ones are not included."""
        if class_type not in self._inputs:
            declared = self.input_types(class_type)
            self._inputs[class_type] = {
                name: _read_input(name, entry, category == "required")
                for category in ("required", "optional")
                for name, entry in declared.get(category, {}).items()
            }
        return self._inputs[class_type]

    def hidden(self, class_type: str) -> dict[str, str]:
        """Return the hidden inputs of a class, {name: kind such as "UNIQUE_ID"}."""
        declared = self.input_types(class_type).get("hidden", {})
        return {name: kind if isinstance(kind, str) else kind[0] for name, kind in declared.items()}

    def return_types(self, class_type: str) -> tuple[Any, ...]:
        """Return the type of each output of a class."""
        return tuple(getattr(self.classes[class_type], "RETURN_TYPES", ()))

    def is_output(self, class_type: str) -> bool:
        """Return whether a run begins at nodes of this class."""
        return getattr(self.classes[class_type], "OUTPUT_NODE", False) is True

    def outputs_of(self, prompt: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the ids of the nodes at which a run of a prompt begins."""
        return [node_id for node_id, node in prompt.items() if self.is_output(node["class_type"])]

    def title(self, class_type: str) -> str:
        """Return the display name of a class."""
        return self.display_names.get(class_type, class_type)


def _read_input(name: str, entry: Any, required: bool) -> Input:
    kind, *rest = entry if isinstance(entry, (tuple, list)) else (entry,)
    options = rest[0] if rest and isinstance(rest[0], Mapping) else {}
    if isinstance(kind, (list, tuple)):
        return Input(name, "COMBO", required, options, list(kind))
    if kind == "COMBO":
        choices = options.get("options", [])
        return Input(name, "COMBO", required, options, list(choices) if isinstance(choices, (list, tuple)) else [])
    return Input(name, kind, required, options)


def catalog_of_server(object_info: Mapping[str, Any], url: str) -> Catalog:
    """Return a server's nodes, for reading and setting workflows. Their classes declare inputs and cannot run.

    A class that is described wrongly is there, too; asking for its inputs raises a BackendError.

    Args:
        object_info: The server's answer at /object_info.
        url: URL of the server.
    Raises:
        BackendError: There are too many classes.
    """
    if len(object_info) > MAX_CLASSES:
        raise BackendError(
            f"{url}/object_info describes {len(object_info):,} nodes; expected at most {MAX_CLASSES:,}. Remove node "
            "packs from the server."
        )
    infos = {name: info if isinstance(info, Mapping) else {} for name, info in object_info.items()}
    shown = {name: info.get("display_name") for name, info in infos.items()}
    return Catalog(
        {name: _described(name, info, url) for name, info in infos.items()},
        {name: title if isinstance(title, str) and title else name for name, title in shown.items()},
        server=url,
    )


def _described(name: str, info: Mapping[str, Any], url: str) -> type:
    declared, output = info.get("input") or {}, info.get("output")

    def input_types(cls: type) -> Mapping[str, Any]:
        if "input" not in info or not _is_declared(declared):
            raise BackendError(
                f"{url}/object_info describes the inputs of the node {name[:100]!r} in a shape that ComfyUI does not "
                "use; expected a ComfyUI server there. Look at the node pack that the node is from."
            )
        inputs = sum(len(declared.get(category, {})) for category in ("required", "optional", "hidden"))
        outputs = len(output) if isinstance(output, list) else 0
        if max(inputs, outputs) > MAX_SOCKETS:
            raise BackendError(
                f"{url}/object_info describes the node {name[:100]!r} with {inputs:,} inputs and {outputs:,} outputs; "
                f"expected at most {MAX_SOCKETS:,}. Look at the node pack that the node is from."
            )
        return declared

    members = {
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(output) if isinstance(output, list) else (),
        "OUTPUT_NODE": info.get("output_node") is True,
    }
    return type("Described", (), members)


def _is_declared(declared: Any) -> bool:
    """Return whether something is {"required": {name: entry}, ...}, where an entry is a type or [type, ...]."""
    if not isinstance(declared, Mapping):
        return False
    groups = [declared.get(category, {}) for category in ("required", "optional", "hidden")]
    if not all(isinstance(group, Mapping) for group in groups):
        return False
    kinds = [entry[:1] if isinstance(entry, list) else [entry] for group in groups[:2] for entry in group.values()]
    return all(kind and isinstance(kind[0], (str, list)) for kind in kinds)
