"""Results of a batch: inputs, status and files of each row."""

import json
from dataclasses import dataclass

from ...errors import UsageError
from ...workflow.overrides import parse_seed
from ..rows.plan import Plan, Row
from .journal import Journal, RowState

BAD = "bad"
"""Status of a row that cannot run; the others are those of the journal."""


@dataclass(frozen=True)
class Result:
    """One row of a batch and what became of it.

    Attributes:
        row: The row.
        state: Its state in the journal.
    """

    row: Row
    state: RowState

    @property
    def status(self) -> str:
        """Status in the journal, or BAD."""
        return self.state.status if self.row.error is None else BAD

    @property
    def error(self) -> str | None:
        """Reason why it has no images; None if it has."""
        return self.state.error if self.row.error is None else self.row.error

    @property
    def seed(self) -> int | None:
        """Cell of the column `seed` as a number; None if it is empty or no seed."""
        try:
            return None if self.row.seed is None else parse_seed(self.row.seed)
        except UsageError:
            return None

    @property
    def files(self) -> list[str]:
        """Names of its files, relative to the output folder."""
        return [file["name"] for file in self.state.files]

    @property
    def prompt(self) -> str:
        """Text prompt; the row's cells where the workflow has several prompts or none."""
        return self.row.prompt or ", ".join(f"{column}: {value}" for column, value in self.row.inputs.items())

    @property
    def inputs(self) -> str:
        """Cells as a JSON object."""
        return json.dumps(self.row.inputs, ensure_ascii=False)


def results_of(plan: Plan, journal: Journal) -> list[Result]:
    """Return the results of all rows, in the order of the table."""
    return [Result(row, journal.state(row.id)) for row in plan.rows]
