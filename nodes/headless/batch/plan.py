"""Plan of a batch: the inputs and image name of each row, and the order in which rows run."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidWorkflowError, UsageError
from ..execution.scheduler import is_kept
from ..execution.signatures import cache_keys, loaded_files
from ..run import Prepared
from ..workflow.catalog import Catalog
from ..workflow.overrides import apply, find_input, parse_seed, slots
from ..workflow.prompt import Prompt, links_of, title_of
from ..workflow.validate import validate
from .names import NamePattern
from .table import Table, Value

ID, SEED = "id", "seed"
"""Columns that name no input of the workflow."""
STAGE_C_SAMPLER = "WuerstchenStageCSampler"
_SAVERS = frozenset({"SaveImage", "SaveLatent"})
_FOLDER_SAVERS = frozenset({"WuerstchenSaveStageC"})


@dataclass(frozen=True)
class Row:
    """One row of a batch.

    Attributes:
        id: Unique id.
        name: Name of its first image, relative to the output folder.
        settings: {"NODE.input": value}.
        seed: Value for every seed input; None to leave them as they are.
        digest: Digest of its workflow in the API format.
        group: Rows of the same group have the same networks and the same Stage C result.
    """

    id: str
    name: str
    settings: Mapping[str, Value]
    seed: Value | None
    digest: str
    group: str


@dataclass(frozen=True)
class Plan:
    """Plan of a batch.

    Attributes:
        prepared: The workflow, with the inputs set that are the same for all rows.
        rows: Rows in the order of the table.
        order: Indices of the rows, in the order of running.
        workflow_digest: Digest of the workflow.
        table_digest: Digest of ids, names and workflows of all rows.
    """

    prepared: Prepared
    rows: list[Row]
    order: list[int]
    workflow_digest: str
    table_digest: str


def make_plan(prepared: Prepared, table: Table, pattern: str, catalog: Catalog) -> Plan:
    """Plan a batch. Nothing runs.

    Args:
        prepared: A workflow that `run.resolve` returned.
        table: The rows.
        pattern: Pattern of the image names (see `NamePattern`).
        catalog: Node classes.
    Raises:
        UsageError: Table and workflow do not fit, such as by an unknown column, an id that is used twice, or a name
            that leads out of the output folder.
        InvalidWorkflowError: No row can run.
        WeightsMissingError: Weights that every row needs are missing.
    """
    _check_outputs(prepared.prompt)
    set_by_rows = _check_columns(prepared.prompt, catalog, table)
    _check_weights(prepared.prompt, catalog, set_by_rows)
    ids = _ids_of(table)
    names = _names_of(table, ids, pattern)
    rows: list[Row] = []
    keys: list[tuple[str, str]] = []
    can_run, reason = False, None
    for row_id, name, cells in zip(ids, names, table.rows, strict=True):
        settings = {column: value for column, value in cells.items() if column not in (ID, SEED)}
        try:
            prompt = prompt_of(prepared, catalog, settings, cells.get(SEED)).prompt
        except UsageError:  # a value of the wrong type; only this row fails, when it runs
            digest, key = _digest([settings, cells.get(SEED)]), ("", "")
        else:
            digest, key = _digest(prompt), _shared(prompt, catalog)
            if not can_run:  # one valid row is enough here; each row is validated again when it runs
                can_run, reason = _can_run(prompt, catalog, reason)
        rows.append(Row(row_id, name, settings, cells.get(SEED), digest, key[1]))
        keys.append(key)
    if reason is not None and not can_run:
        raise reason
    digests = [_digest(prepared.prompt), _digest([[row.id, row.name, row.digest] for row in rows])]
    return Plan(prepared, rows, _order(keys), *digests)


def prompt_of(prepared: Prepared, catalog: Catalog, settings: Mapping[str, Any], seed: Any) -> Prepared:
    """Return the workflow of one row, which is not validated.

    Args:
        prepared: The workflow of the batch.
        catalog: Node classes.
        settings: {"NODE.input": value} of the row.
        seed: Value for every seed input; None to leave them as they are.
    Raises:
        UsageError: A value does not fit its input.
    """
    number = None if seed is None else parse_seed(seed)
    try:
        workflow, prompt = apply(prepared.workflow, prepared.prompt, catalog, settings, number)
    except UsageError as error:
        raise UsageError(str(error).removeprefix("--set ")) from error
    return Prepared(prompt, workflow)


def _check_outputs(prompt: Prompt) -> None:
    classes = {node["class_type"] for node in prompt.values()}
    for name in sorted(classes & _FOLDER_SAVERS):
        raise UsageError(
            f"The workflow has a {name}, which saves a checkpoint; a batch would save one for each row. Remove it."
        )
    if not classes & _SAVERS:
        raise UsageError("The workflow saves no image; add a Save Image node.")


def _check_weights(prompt: Prompt, catalog: Catalog, set_by_rows: set[str]) -> None:
    """Check that the weights of loaders that no row changes are there. Raises: WeightsMissingError."""
    for node_id, node in prompt.items():
        node_class = catalog.classes[node["class_type"]]
        if hasattr(node_class, "source_files") and node_id not in set_by_rows and not links_of(prompt, node_id):
            loaded_files(catalog, node)


def _check_columns(prompt: Prompt, catalog: Catalog, table: Table) -> set[str]:
    """Check the columns of a table, and return the ids of the nodes that they set. Raises: UsageError."""
    found: dict[tuple[str, str], str] = {}
    settable = slots(prompt, catalog)
    for column in table.columns:
        if column == ID or (column == SEED and any(declared.is_seed for _, declared, _ in settable)):
            continue
        if "." not in column:
            known = [ID, SEED, *(f"{title_of(prompt, node_id)}.{declared.name}" for node_id, declared, _ in settable)]
            near = difflib.get_close_matches(column, known, n=3, cutoff=0.3)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`wuerstchen slots` lists the inputs."
            raise UsageError(f"{table.name}: unknown column {column!r}; expected NODE.input, {ID} or {SEED}. {hint}")
        try:
            node_id, declared = find_input(prompt, catalog, column)
        except UsageError as error:
            raise UsageError(f"{table.name}: unknown column {column!r}: {str(error).partition(': ')[2]}") from error
        first = found.setdefault((node_id, declared.name), column)
        if first != column:
            raise UsageError(f"{table.name}: the columns {first!r} and {column!r} set the same input. Remove one.")
    return {node_id for node_id, _ in found}


def _ids_of(table: Table) -> list[str]:
    """Return the id of each row; its number, from 1, in a table without ids."""
    if ID not in table.columns:
        return [str(number) for number in range(1, len(table.rows) + 1)]
    places: dict[str, str] = {}
    for place, row in zip(table.places, table.rows, strict=True):
        if ID not in row:
            raise UsageError(f"{table.name}, {place}: the id is missing; give every row an id, or remove the column.")
        earlier = places.setdefault(str(row[ID]), place)
        if earlier != place:
            raise UsageError(
                f"{table.name}, {place}: the id {str(row[ID])!r} is that of {earlier}, too; expected unique ids."
            )
    return list(places)


def _names_of(table: Table, ids: list[str], pattern: str) -> list[str]:
    names = NamePattern(pattern, [column for column in table.columns if column != ID])
    places: dict[str, str] = {}
    for index, (row_id, place, row) in enumerate(zip(ids, table.places, table.rows, strict=True), 1):
        try:
            name = names.name_of(row_id, index, row)
        except UsageError as error:
            raise UsageError(f"{table.name}, {place}: {error}") from error
        earlier = places.setdefault(name, place)
        if earlier != place:
            raise UsageError(
                f"{table.name}: the images of {earlier} and {place} would both be {name}. Put {{id}} into --name."
            )
    return list(places)


def _can_run(
    prompt: Prompt, catalog: Catalog, earlier: InvalidWorkflowError | None
) -> tuple[bool, InvalidWorkflowError | None]:
    """Return whether a row's workflow is valid, and the first error so far."""
    try:
        validate(prompt, catalog)
    except InvalidWorkflowError as error:
        return False, earlier or error
    return True, earlier


def _shared(prompt: Prompt, catalog: Catalog) -> tuple[str, str]:
    """Return digests of the networks that a row loads, and of these and its Stage C results."""
    try:
        keys = cache_keys(prompt, set(prompt), catalog, None)
    except Exception:  # the workflow cannot run; running it reports the error
        return "", ""
    networks = [keys.get(each) for each in prompt if not is_kept(prompt, each, catalog)]
    samplers = [keys.get(each) for each, node in prompt.items() if node["class_type"] == STAGE_C_SAMPLER]
    return _digest(networks), _digest([networks, samplers])


def _order(keys: list[tuple[str, str]]) -> list[int]:
    """Return the order of rows: same networks together, among these same Stage C together, else the table's order.

    Args:
        keys: The digests of `_shared` for each row.
    """
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        for part in key:
            first.setdefault(part, index)
    return sorted(range(len(keys)), key=lambda index: (*(first[part] for part in keys[index]), index))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
