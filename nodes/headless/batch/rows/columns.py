"""Columns of a table and the inputs of the workflow that they set."""

from dataclasses import dataclass

from ...errors import UsageError, describe, did_you_mean
from ...workflow.catalog import Catalog, Input
from ...workflow.node_names import NodeNames
from ...workflow.overrides import slots
from ...workflow.prompt import Prompt, ancestors, links_of, title_of
from .table import ID, NEGATIVE, PROMPT, SEED, Table

_LINKS = {PROMPT: "positive", NEGATIVE: "negative"}
"""Inputs of samplers that the prompts reach, by column."""


@dataclass(frozen=True)
class Target:
    """Input that a column sets.

    Attributes:
        node_id: Id of the node.
        declared: The input.
    """

    node_id: str
    declared: Input

    @property
    def key(self) -> str:
        """The input as "NODE.input"."""
        return f"{self.node_id}.{self.declared.name}"


def targets_of(prompt: Prompt, catalog: Catalog, table: Table) -> dict[str, Target]:
    """Return the input that each column sets. The columns `id` and `seed` have none.

    Args:
        prompt: The workflow in the API format.
        catalog: Node classes.
        table: The table.
    Raises:
        UsageError: A column names no input, or two columns name the same one.
    """
    has_seed = any(declared.is_seed for _, declared, _ in slots(prompt, catalog))
    names = NodeNames(prompt, catalog)
    found: dict[str, Target] = {}
    for column in table.columns:
        if column == ID or (column == SEED and has_seed):
            continue
        found[column] = _target(prompt, catalog, names, table.name, column)
    first: dict[str, str] = {}
    for column, target in found.items():
        earlier = first.setdefault(target.key, column)
        if earlier != column:
            raise UsageError(f"{table.name}: the columns {earlier!r} and {column!r} set the same input. Remove one.")
    return found


def text_inputs(prompt: Prompt, catalog: Catalog, column: str = PROMPT) -> list[Target]:
    """Return the text inputs that reach the `positive` or `negative` input of a sampler.

    Args:
        prompt: The workflow in the API format.
        catalog: Node classes.
        column: PROMPT or NEGATIVE.
    """
    sources = [link.source for node_id in prompt for link in links_of(prompt, node_id) if link.name == _LINKS[column]]
    reached = ancestors(prompt, sources)
    return [
        Target(node_id, declared)
        for node_id, declared, value in slots(prompt, catalog)
        if node_id in reached and declared.type == "STRING" and not isinstance(value, list)
    ]


def _target(prompt: Prompt, catalog: Catalog, names: NodeNames, table: str, column: str) -> Target:
    if column in _LINKS:
        return _prompt_target(prompt, catalog, table, column)
    if "." not in column:
        settable = [(node_id, declared) for node_id, declared, _ in slots(prompt, catalog)]
        named = [f"{title_of(prompt, node_id)}.{declared.name}" for node_id, declared in settable]
        hint = did_you_mean(column, [ID, SEED, *_LINKS, *named]) or "`wuerstchen slots` lists the inputs."
        raise UsageError(
            f"{table}: unknown column {column!r}; expected NODE.input, {ID}, {SEED}, {PROMPT} or {NEGATIVE}. {hint}"
        )
    try:
        return Target(*names.find_input(column))
    except UsageError as error:
        raise UsageError(f"{table}: unknown column {column!r}: {str(error).partition(': ')[2]}") from error


def _prompt_target(prompt: Prompt, catalog: Catalog, table: str, column: str) -> Target:
    found = text_inputs(prompt, catalog, column)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"{table}: the column {column!r} is for the text that reaches the {_LINKS[column]} input of a sampler, and "
            "this workflow has none. Name the input as NODE.input; `wuerstchen slots` lists them."
        )
    nodes = [
        describe(each.node_id, prompt[each.node_id]["class_type"], title_of(prompt, each.node_id)) for each in found
    ]
    inputs = "; ".join(f"{each.declared.name} of node {node}" for each, node in zip(found, nodes, strict=True))
    raise UsageError(
        f"{table}: the column {column!r} may mean {len(found)} inputs: {inputs}. Name one as NODE.input, such as "
        f"{found[0].key}."
    )
