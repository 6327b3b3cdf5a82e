"""A table read against a workflow: what each row sets, what its picture is called, in which order rows are drawn."""

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
"""Columns that are no input of the workflow."""
STAGE_C_SAMPLER = "WuerstchenStageCSampler"
_SAVERS = frozenset({"SaveImage", "SaveLatent"})
_FOLDER_SAVERS = frozenset({"WuerstchenSaveStageC"})


@dataclass(frozen=True)
class Row:
    """One row. id: unique. name: of its first picture. settings: {"NODE.input": value}. digest: of its API format."""

    id: str
    name: str
    settings: Mapping[str, Value]
    seed: Value | None
    digest: str
    group: str


@dataclass(frozen=True)
class Plan:
    """A batch. rows: in the table's order. order: their places as they are drawn. digests: tell it from others."""

    prepared: Prepared
    rows: list[Row]
    order: list[int]
    workflow_digest: str
    table_digest: str


def make_plan(prepared: Prepared, table: Table, pattern: str, catalog: Catalog) -> Plan:
    """Plan a batch; nothing runs.

    Args:
        prepared: what `run.resolve` gave.
        pattern: the names of the pictures (see `NamePattern`).
    Raises:
        UsageError: the table and the workflow do not fit: an unknown column, an id that is there twice, a name that
            leads out of the output folder.
        InvalidWorkflowError: no row can run. WeightsMissingError: nor one without weights that are not here.
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
        except UsageError:  # a value of the wrong type: that row's own failure, when its turn comes
            digest, key = _digest([settings, cells.get(SEED)]), ("", "")
        else:
            digest, key = _digest(prompt), _shared(prompt, catalog)
            if not can_run:  # one row that can shows that the workflow can; each is checked again when its turn comes
                can_run, reason = _can_run(prompt, catalog, reason)
        rows.append(Row(row_id, name, settings, cells.get(SEED), digest, key[1]))
        keys.append(key)
    if reason is not None and not can_run:
        raise reason
    digests = [_digest(prepared.prompt), _digest([[row.id, row.name, row.digest] for row in rows])]
    return Plan(prepared, rows, _order(keys), *digests)


def prompt_of(prepared: Prepared, catalog: Catalog, settings: Mapping[str, Any], seed: Any) -> Prepared:
    """The workflow of one row; not validated. Raises: UsageError."""
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
            f"The workflow has a {name}, which saves a checkpoint; a batch would do it for each row. Take it out."
        )
    if not classes & _SAVERS:
        raise UsageError("The workflow saves no picture; add a Save Image node to it.")


def _check_weights(prompt: Prompt, catalog: Catalog, set_by_rows: set[str]) -> None:
    """Raises WeightsMissingError where no row could run, rather than have every one of them fail."""
    for node_id, node in prompt.items():
        node_class = catalog.classes[node["class_type"]]
        if hasattr(node_class, "source_files") and node_id not in set_by_rows and not links_of(prompt, node_id):
            loaded_files(catalog, node)


def _check_columns(prompt: Prompt, catalog: Catalog, table: Table) -> set[str]:
    """The nodes that columns set."""
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
        twin = found.setdefault((node_id, declared.name), column)
        if twin != column:
            raise UsageError(f"{table.name}: the columns {twin!r} and {column!r} are one input. Take one of them out.")
    return {node_id for node_id, _ in found}


def _ids_of(table: Table) -> list[str]:
    if ID not in table.columns:
        return [str(number) for number in range(1, len(table.rows) + 1)]
    places: dict[str, str] = {}
    for place, row in zip(table.places, table.rows, strict=True):
        if ID not in row:
            raise UsageError(f"{table.name}, {place}: the id is missing; give every row one, or none at all.")
        earlier = places.setdefault(str(row[ID]), place)
        if earlier != place:
            raise UsageError(
                f"{table.name}, {place}: the id {str(row[ID])!r} is that of {earlier}, too; expected each once."
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
                f"{table.name}: the pictures of {earlier} and {place} would both be {name}. Put {{id}} into --name."
            )
    return list(places)


def _can_run(
    prompt: Prompt, catalog: Catalog, earlier: InvalidWorkflowError | None
) -> tuple[bool, InvalidWorkflowError | None]:
    """Whether a row's workflow is valid, and the first reason why one was not."""
    try:
        validate(prompt, catalog)
    except InvalidWorkflowError as error:
        return False, earlier or error
    return True, earlier


def _shared(prompt: Prompt, catalog: Catalog) -> tuple[str, str]:
    """What rows may have in common: the networks that they load, and what their Stage C Samplers give."""
    try:
        keys = cache_keys(prompt, set(prompt), catalog, None)
    except Exception:  # a workflow that cannot run; whoever runs it says why
        return "", ""
    networks = [keys.get(each) for each in prompt if not is_kept(prompt, each, catalog)]
    samplers = [keys.get(each) for each, node in prompt.items() if node["class_type"] == STAGE_C_SAMPLER]
    return _digest(networks), _digest([networks, samplers])


def _order(keys: list[tuple[str, str]]) -> list[int]:
    """Rows with the same networks together, among them those with the same Stage C; else in the table's order."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        for part in key:
            first.setdefault(part, index)
    return sorted(range(len(keys)), key=lambda index: (*(first[part] for part in keys[index]), index))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
