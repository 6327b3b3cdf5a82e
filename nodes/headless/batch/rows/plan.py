"""Plan of a batch: the inputs and image name of each row, and the order in which rows run."""

import dataclasses
import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidWorkflowError, UsageError
from ...execution.scheduler import is_kept
from ...execution.signatures import loaded_files
from ...run import Prepared
from ...workflow.catalog import Catalog
from ...workflow.overrides import apply, parse_seed
from ...workflow.prompt import Prompt, ancestors, constant, links_of
from ...workflow.validate import validate
from .bad_rows import BadRow, wrong_type, wrong_value
from .columns import Target, targets_of, text_inputs
from .names import NamePattern
from .table import ID, SEED, Table, Value

STAGE_C_SAMPLER = "WuerstchenStageCSampler"
_SAVERS = frozenset({"SaveImage", "SaveLatent"})
_FOLDER_SAVERS = frozenset({"WuerstchenSaveStageC"})


@dataclass(frozen=True)
class Row:
    """One row of a batch.

    Attributes:
        id: Unique id.
        name: Name of its first image, relative to the output folder.
        inputs: {column: value}, without the columns `id` and `seed`.
        settings: The same as {"NODE.input": value}.
        seed: Value for every seed input; None to leave them as they are.
        prompt: Text of the workflow's only positive prompt; empty if there are several or none.
        digest: Digest of its workflow in the API format.
        group: Rows of the same group have the same networks and the same Stage C result.
        error: Reason why it cannot run; None for a row that can.
    """

    id: str
    name: str
    inputs: Mapping[str, Value]
    settings: Mapping[str, Value]
    seed: Value | None
    prompt: str
    digest: str
    group: str
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """Plan of a batch.

    Attributes:
        prepared: The workflow, with the inputs set that are the same for all rows.
        rows: Rows in the order of the table.
        order: Indices of the rows that can run, in the order of running.
        bad: Rows that cannot run.
        workflow_digest: Digest of the workflow.
        table_digest: Digest of ids, names and workflows of all rows.
        cells_digest: Digest of the ids and cells of all rows.
    """

    prepared: Prepared
    rows: list[Row]
    order: list[int]
    bad: list[BadRow]
    workflow_digest: str
    table_digest: str
    cells_digest: str


def make_plan(
    prepared: Prepared,
    table: Table,
    pattern: str,
    catalog: Catalog,
    on_row: Callable[[int, int], None] = lambda checked, total: None,
    most_bad: int | None = None,
) -> Plan:
    """Plan a batch, and check every row. Nothing runs.

    Args:
        prepared: A workflow that `run.resolve` returned.
        table: The rows.
        pattern: Pattern of the image names (see `NamePattern`).
        catalog: Node classes.
        on_row: Called with the number of rows that are checked, and of all rows.
        most_bad: Number of rows that cannot run after which the others are left out of the plan; None for no end.
    Raises:
        UsageError: Table and workflow do not fit, such as by an unknown column, an id that is used twice, or a name
            that leads out of the output folder.
        InvalidWorkflowError: No row can run, and the cause is no cell.
        WeightsMissingError: Weights that every row needs are missing.
    """
    _check_outputs(prepared.prompt)
    targets = targets_of(prepared.prompt, catalog, table)
    _check_weights(prepared.prompt, catalog, {target.node_id for target in targets.values()})
    ids = _ids_of(table)
    names = _names_of(table, ids, pattern)
    planner = _RowPlanner(prepared, catalog, targets)
    for place, row_id, name, cells in zip(table.places, ids, names, table.rows, strict=True):
        planner.add(place, row_id, name, cells)
        on_row(len(planner.rows), len(ids))
        if len(planner.bad) == most_bad:
            break
    if planner.invalid is not None and planner.unexplained == len(planner.rows):
        raise planner.invalid
    rows = planner.rows
    digests = [
        _digest(prepared.prompt),
        _digest([[row.id, row.name, row.digest] for row in rows]),
        _digest([[row.id, row.inputs, row.seed] for row in rows]),
    ]
    return Plan(prepared, rows, planner.order(), planner.bad, *digests)


class _RowPlanner:
    """Plans rows one after the other.

    Attributes:
        rows: Rows so far.
        bad: Those of them that cannot run.
        invalid: First error of validation that no cell of its row explains; None if there is none.
        unexplained: Number of such errors.
    """

    def __init__(self, prepared: Prepared, catalog: Catalog, targets: Mapping[str, Target]) -> None:
        self.rows: list[Row] = []
        self.bad: list[BadRow] = []
        self.invalid: InvalidWorkflowError | None = None
        self.unexplained = 0
        self._keys: list[tuple[str, str]] = []
        self._catalog, self._targets = catalog, targets
        bare = dataclasses.replace(prepared.workflow, editor=None)  # only the API format counts here
        self._prepared = Prepared(prepared.prompt, bare)
        texts = text_inputs(prepared.prompt, catalog)
        self._text = texts[0] if len(texts) == 1 else None

    def add(self, place: str, row_id: str, name: str, cells: Mapping[str, Value]) -> None:
        """Plan the next row of the table."""
        inputs = {column: value for column, value in cells.items() if column in self._targets}
        settings = {self._targets[column].key: value for column, value in inputs.items()}
        seed = cells.get(SEED)
        text, key = "", ("", "")
        problem: tuple[str | None, str] | None = wrong_type(cells, self._targets)
        prompt: Prompt = {}
        if problem is None:
            try:
                prompt = prompt_of(self._prepared, self._catalog, settings, seed).prompt
            except UsageError as error:
                problem = None, str(error)
        digest = _digest(prompt or [settings, seed])
        if prompt:
            text = self._text_of(prompt)
            problem = self._problem(prompt, cells)
            if problem is None:
                key = _shared(prompt, self._catalog)
        error = None
        if problem is not None:
            column, reason = problem
            bad = BadRow(place, row_id, column, cells[column] if column else None, reason)
            self.bad.append(bad)
            error = bad.error
        self.rows.append(Row(row_id, name, inputs, settings, seed, text, digest, key[1], error))
        self._keys.append(key)

    def order(self) -> list[int]:
        """Return the indices of the rows that can run, in the order of running."""
        return [index for index in _order(self._keys) if self.rows[index].error is None]

    def _problem(self, prompt: Prompt, cells: Mapping[str, Value]) -> tuple[str | None, str] | None:
        try:
            validate(prompt, self._catalog)
        except InvalidWorkflowError as error:
            cell = wrong_value(error, cells, self._targets) or self._wrong_seed(error, cells)
            if cell is not None:
                return cell
            self.invalid = self.invalid or error
            self.unexplained += 1
            return None, str(error)
        return None

    def _wrong_seed(self, error: InvalidWorkflowError, cells: Mapping[str, Value]) -> tuple[str, str] | None:
        """Return the column `seed` and the reason, where an error is about a seed that it sets; None otherwise."""
        for entry in error.node_errors.values() if SEED in cells else ():
            for each in entry["errors"]:
                declared = self._catalog.inputs(entry["class_type"]).get(each["extra_info"].get("input_name"))
                if declared is not None and declared.is_seed:
                    return SEED, each["details"]
        return None

    def _text_of(self, prompt: Prompt) -> str:
        if self._text is None:
            return ""
        return str(constant(prompt[self._text.node_id]["inputs"].get(self._text.declared.name, "")))


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
    try:
        validate(prompt, catalog)
        broken: set[str] = set()
    except InvalidWorkflowError as error:  # a row may mend it
        broken = set(error.node_errors) or set(prompt)
    for node_id in ancestors(prompt, catalog.outputs_of(prompt)) - broken - set_by_rows:
        node = prompt[node_id]
        if hasattr(catalog.classes[node["class_type"]], "source_files") and not links_of(prompt, node_id):
            loaded_files(catalog, node)


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
    places: dict[str, tuple[str, str]] = {}
    found: list[str] = []
    for index, (row_id, place, row) in enumerate(zip(ids, table.places, table.rows, strict=True), 1):
        try:
            name = names.name_of(row_id, index, row)
        except UsageError as error:
            raise UsageError(f"{table.name}, {place}: {error}") from error
        earlier, first = places.setdefault(unicodedata.normalize("NFC", name).casefold(), (place, name))
        if earlier != place:
            both = name if name == first else f"{first} and {name}, which are the same on some systems"
            would = "would both be" if name == first else "would be"
            raise UsageError(
                f"{table.name}: the images of {earlier} and {place} {would} {both}. Put {{id}} into --name, or give "
                "the rows other ids."
            )
        found.append(name)
    return found


def _shared(prompt: Prompt, catalog: Catalog) -> tuple[str, str]:
    """Return digests of the networks that a row loads, and of these and its Stage C results.

    They cover the nodes and their inputs, not the files that these name, which are the same for all rows.
    """
    networks = ancestors(prompt, [each for each in prompt if not is_kept(prompt, each, catalog)])
    samplers = ancestors(prompt, [each for each, node in prompt.items() if node["class_type"] == STAGE_C_SAMPLER])
    both = networks | samplers
    parts = [(each, [each, node["class_type"], node["inputs"]]) for each, node in prompt.items() if each in both]
    return _digest([part for each, part in parts if each in networks]), _digest([part for _, part in parts])


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
