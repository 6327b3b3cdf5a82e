"""Errors between a workflow file and its images, and the shapes in which ComfyUI's server reports them.

The whole tree of exceptions is drawn in `wuerstchen_core.errors`.
"""

import difflib
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from wuerstchen_core.errors import WorkflowError, WuerstchenError

MAX_FAULTY = 100
"""Most nodes whose errors are reported at once."""
MAX_LINES = 20
"""Most errors that a message lists."""
_MOST_KNOWN = 1500
_LONGEST_WORD = 60


class UsageError(WuerstchenError):
    """The caller named a node, an input, a file or a value that does not exist or cannot be used."""


class BackendError(WuerstchenError):
    """The server or cluster that should run the workflow cannot be reached, or answers wrongly."""


class OutputError(WuerstchenError):
    """The output of the command cannot be written to stdout, as on a full disk."""


class InvalidWorkflowError(WorkflowError):
    """A workflow was read and cannot run.

    Attributes:
        error: Error of the workflow as a whole, in the shape of ComfyUI's server: {"type", "message", "details",
            "extra_info"}.
        node_errors: {node id: {"errors": [{"type", "message", "details", "extra_info"}], "dependent_outputs":
            [node id], "class_type": str}}.
    """

    def __init__(
        self, message: str, error: Mapping[str, Any], node_errors: Mapping[str, dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message)
        self.error = dict(error)
        self.node_errors = dict(node_errors or {})

    @classmethod
    def of_nodes(
        cls, node_errors: Mapping[str, dict[str, Any]], *, more: int = 0, unchecked: int = 0
    ) -> "InvalidWorkflowError":
        """Make one error of the errors of several nodes, the first of which are in its message.

        Args:
            node_errors: As the attribute, with the `title` of each node for the message.
            more: Number of further nodes with errors, which are left out.
            unchecked: Number of nodes that were not looked at, since enough errors were found before.
        """
        lines = [
            f"Node {describe(node_id, entry['class_type'], entry.get('title'))}: {error['message']}: {error['details']}"
            for node_id, entry in node_errors.items()
            for error in entry["errors"]
        ]
        left = len(lines) - MAX_LINES
        rest = [f"... and {left} more errors"] * (left > 0) + [f"... and {more} more nodes with errors"] * (more > 0)
        rest += [f"... and {unchecked} more nodes, which were not checked"] * (unchecked > 0)
        details = "\n".join([*lines[:MAX_LINES], *rest])
        error = node_error("prompt_outputs_failed_validation", "Prompt outputs failed validation", details)
        plain = {
            node_id: {key: value for key, value in entry.items() if key != "title"}
            for node_id, entry in node_errors.items()
        }
        return cls(details, error, plain)


class RunError(WuerstchenError):
    """A node failed while it ran; `__cause__` is the exception that it raised.

    Attributes:
        node_id: Id of the node.
        class_type: Class of the node.
        title: Title of the node.
    """

    def __init__(self, node_id: str, class_type: str, title: str, cause: BaseException) -> None:
        super().__init__(f"Node {describe(node_id, class_type, title)} failed: {str(cause) or type(cause).__name__}")
        self.node_id = node_id
        self.class_type = class_type
        self.title = title
        self.__cause__ = cause


def describe(node_id: str, class_type: str, title: str | None = None) -> str:
    """Name a node for a message: its id, its title where that differs from its class, and its class."""
    if not title or title == class_type:
        return f"{node_id} ({class_type})"
    return f'{node_id} "{title}" ({class_type})'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'run'?" with the known words that are like a misspelled one; empty if none is."""
    near = near_matches(word, known)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def near_matches(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Return up to three known words that are like a misspelled one, the nearest first.

    Args:
        word: The word. A long one has no near matches: comparing takes its length squared.
        known: Words that it may have meant. Only the first ones of them are looked at, and no long ones.
        cutoff: Likeness from which on a word is near, up to 1.
    """
    if len(word) > _LONGEST_WORD:
        return []
    short = [each for each in islice(known, _MOST_KNOWN) if len(each) <= _LONGEST_WORD]
    return difflib.get_close_matches(word, short, n=3, cutoff=cutoff)


def node_error(kind: str, message: str, details: str, **extra_info: Any) -> dict[str, Any]:
    """Return an error in the shape of ComfyUI's server: {"type", "message", "details", "extra_info"}."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}
