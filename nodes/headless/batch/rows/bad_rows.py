"""Rows that cannot run, found before any row runs: the cell, and what was expected."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import InvalidWorkflowError, UsageError
from ...workflow.overrides import parse_seed, typed
from .columns import Target
from .table import SEED, Value

MOST_BAD = 1000
"""Number of bad rows after which no further rows are looked at, where bad rows end the command."""
_SHOWN = 10
"""Number of bad rows that an error lists."""
_LONGEST_REASON = 500
"""Characters of a reason that are shown."""


@dataclass(frozen=True)
class BadRow:
    """Row that cannot run.

    Attributes:
        place: Its position in the table, such as "line 3".
        id: Its id.
        column: Column of the first bad cell; None if no single cell is the cause.
        value: Value of that cell.
        reason: Expected value, or the error.
    """

    place: str
    id: str
    column: str | None
    value: Value | None
    reason: str

    def __str__(self) -> str:
        return f"{self.place} (id {self.id[:80]}): {self.error}"

    @property
    def error(self) -> str:
        """The bad cell and the reason, in one line."""
        reason = " ".join(self.reason.split("\n"))
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        return reason if self.column is None else f"{self.column} is {_shortened(self.value)}: {reason}"


def refusal(name: str, bad: list[BadRow], checked: int, total: int) -> UsageError:
    """Return the error that lists bad rows.

    Args:
        name: Name of the table.
        bad: Its bad rows, at least one.
        checked: Number of rows that were looked at, from the first one on.
        total: Number of its rows.
    """
    rest = f"; the {total - checked:,} rows after them were not looked at" if checked < total else ""
    rows = f"the first {checked:,}" if rest else f"{total}"
    head = (
        f"{name}: {len(bad)} of {rows} rows cannot run, and nothing was drawn{rest}. Correct them, or pass --skip-bad:"
    )
    return UsageError("\n".join([head, *listed(bad)]))


def listed(bad: list[BadRow]) -> list[str]:
    """Return a line for each of the first bad rows, and one with the number of the others."""
    more = [f"  ... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    return [*(f"  {each}" for each in bad[:_SHOWN]), *more]


def wrong_type(cells: Mapping[str, Value], targets: Mapping[str, Target]) -> tuple[str, str] | None:
    """Return the first cell that is not of its input's type, as its column and the reason; None if all are.

    Args:
        cells: {column: value} of a row.
        targets: Input that each column sets.
    """
    for column, value in cells.items():
        try:
            if column in targets:
                declared = targets[column].declared
                typed(value, declared, column)
                if declared.type == "INT" and isinstance(value, float) and not value.is_integer():
                    return column, "expected a whole number."
            elif column == SEED:
                parse_seed(value)
        except UsageError as error:
            return column, "expected " + str(error).rpartition("; expected ")[2]
    return None


def wrong_value(
    error: InvalidWorkflowError, cells: Mapping[str, Value], targets: Mapping[str, Target]
) -> tuple[str, str] | None:
    """Return the first cell that an error of validation is about, as its column and the reason; None if none is.

    Args:
        error: Error of the row's workflow.
        cells: {column: value} of the row.
        targets: Input that each column sets.
    """
    columns = [(column, target) for column, target in targets.items() if column in cells]
    for node_id, entry in error.node_errors.items():
        for each in entry["errors"]:
            name = each["extra_info"].get("input_name")
            for column, target in columns:
                if target.node_id == node_id and name in (None, target.declared.name):
                    own = f"{name}: " if name else "".join(each["details"].partition(" - ")[:2])
                    return column, each["details"].removeprefix(own)
    return None


def _shortened(value: Value | None) -> str:
    if isinstance(value, str) and len(value) > 63:
        value = f"{value[:60]}..."
    text = repr(value)
    return f"{text[:60]}..." if not isinstance(value, str) and len(text) > 63 else text
