"""What can go wrong between a workflow file and its pictures, beside what the core itself reports."""

from collections.abc import Mapping
from typing import Any

from wuerstchen_core.errors import WorkflowError, WuerstchenError


class UsageError(WuerstchenError):
    """The caller asked for something that does not exist or cannot be: a node, an input, a file, a value."""


class BackendError(WuerstchenError):
    """What should run the workflow cannot be reached, or does not behave as it should."""


class InvalidWorkflowError(WorkflowError):
    """A workflow was read and cannot run.

    error: what is wrong with the workflow as a whole, as ComfyUI's server answers it: {"type", "message", "details",
        "extra_info"}.
    node_errors: {node id: {"errors": [{"type", "message", "details", "extra_info"}], "dependent_outputs": [node id],
        "class_type": str}}.
    """

    def __init__(
        self, message: str, error: Mapping[str, Any], node_errors: Mapping[str, dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message)
        self.error = dict(error)
        self.node_errors = dict(node_errors or {})

    @classmethod
    def of_nodes(cls, node_errors: Mapping[str, dict[str, Any]]) -> "InvalidWorkflowError":
        """One error from what is wrong with each node; `title` in an entry names the node in the message."""
        lines = [
            f"Node {describe(node_id, entry['class_type'], entry.get('title'))}: {error['message']}: {error['details']}"
            for node_id, entry in node_errors.items()
            for error in entry["errors"]
        ]
        details = "\n".join(lines)
        error = {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": details,
            "extra_info": {},
        }
        plain = {
            node_id: {key: value for key, value in entry.items() if key != "title"}
            for node_id, entry in node_errors.items()
        }
        return cls(details, error, plain)


class RunError(WuerstchenError):
    """A node failed while it ran; `__cause__` is what it raised."""

    def __init__(self, node_id: str, class_type: str, title: str, cause: BaseException) -> None:
        super().__init__(f"Node {describe(node_id, class_type, title)} failed: {str(cause) or type(cause).__name__}")
        self.node_id = node_id
        self.class_type = class_type
        self.title = title
        self.__cause__ = cause


def describe(node_id: str, class_type: str, title: str | None = None) -> str:
    """How messages name a node: its id, its title, and its class where the title is another."""
    if not title or title == class_type:
        return f"{node_id} ({class_type})"
    return f'{node_id} "{title}" ({class_type})'
