"""Difference between a table and the one that an output folder was last run with."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..rows.names import numbered
from ..rows.plan import Plan, Row
from .journal import DONE, Journal, RowState
from .row_files import is_file


@dataclass(frozen=True)
class Move:
    """Row whose image is there under another id or name.

    Attributes:
        row: The row.
        state: State of the image's earlier row.
        names: New names of its files.
    """

    row: Row
    state: RowState
    names: list[str]


@dataclass(frozen=True)
class Changes:
    """Rows by what became of them since the last run.

    Attributes:
        stay: Number of rows that are as they were.
        changed: Rows with another content than before.
        new: Rows that were not there.
        removed: Ids that are no longer there.
        moves: Rows whose image gets another name.
    """

    stay: int = 0
    changed: list[Row] = field(default_factory=list)
    new: list[Row] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.removed or self.moves)

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each kind."""
        kinds = {"changed": self.changed, "new": self.new, "removed": self.removed, "renamed": self.moves}
        return {**{kind: len(rows) for kind, rows in kinds.items()}, "stay": self.stay}

    def __str__(self) -> str:
        """Counts in one line, such as "12 rows changed, 3 are new, 2 were removed; 85 of 97 stay"."""
        parts = [
            _counted(len(self.changed), "changed", "changed"),
            _counted(len(self.new), "is new", "are new"),
            _counted(len(self.removed), "was removed", "were removed"),
        ]
        said = [part for part in parts if part]
        if said:
            number, _, rest = said[0].partition(" ")
            said[0] = f"{number} {'row' if number == '1' else 'rows'} {rest}"
        stay = self.stay + len(self.moves)
        total = stay + len(self.changed) + len(self.new)
        renamed = f", {len(self.moves)} of them under another name" if self.moves else ""
        return f"{', '.join(said) or 'No row changed'}; {stay} of {total} {'stays' if stay == 1 else 'stay'}{renamed}."


def compare(plan: Plan, journal: Journal, folder: Path) -> Changes:
    """Compare a batch with the one that its output folder was last run with.

    Args:
        plan: The batch.
        journal: Journal of the folder, of the present version.
        folder: Output folder.
    """
    stay: list[Row] = []
    others: list[Row] = []
    for row in plan.rows:
        as_it_was = journal.contents.get(row.id) == row.digest and not _is_renamed(row, journal.state(row.id))
        (stay if as_it_was else others).append(row)
    donors = _Donors(journal, {row.id for row in stay}, folder)
    taken = {row.name: row.id for row in plan.rows}
    moves: list[Move] = []
    for row in others:
        found = donors.take(row)
        if found is not None:
            names = _names(row, found)
            if all(taken.setdefault(name, row.id) == row.id for name in names):
                moves.append(Move(row, found, names))
    moved = {move.row.id for move in moves}
    left = [row for row in others if row.id not in moved]
    ids = {row.id for row in plan.rows}
    known = {row_id: None for row_id in journal.contents if row_id not in donors.given}
    return Changes(
        len(stay),
        [row for row in left if row.id in known],
        [row for row in left if row.id not in known],
        [row_id for row_id in known if row_id not in ids],
        moves,
    )


class _Donors:
    """Finished images that their own rows do not need any more, by the digest of their content.

    Attributes:
        given: Ids of the rows whose image was taken by another row.
    """

    def __init__(self, journal: Journal, staying: set[str], folder: Path) -> None:
        self.given: set[str] = set()
        self._folder = folder
        self._by_digest: dict[str, OrderedDict[str, deque[RowState]]] = {}  # its first key is found at once
        for row_id, state in _finished(journal):
            if state.digest and not (row_id in staying and state is journal.rows.get(row_id)):
                same = self._by_digest.setdefault(state.digest, OrderedDict())
                same.setdefault(row_id, deque()).append(state)

    def take(self, row: Row) -> RowState | None:
        """Remove and return the state of an image with the row's content, best of the row's own; None for none."""
        same = self._by_digest.get(row.digest, OrderedDict())
        while same:
            row_id = row.id if row.id in same else next(iter(same))
            state = same[row_id].popleft()
            if not same[row_id]:
                del same[row_id]
            if all(is_file(self._folder / file["name"], {file["sha256"]}) for file in state.files):
                if row_id != row.id:
                    self.given.add(row_id)
                return state
        return None


def _finished(journal: Journal) -> Iterator[tuple[str, RowState]]:
    for row_id, states in journal.earlier.items():
        yield from ((row_id, state) for state in states if state.status == DONE)
    yield from ((row_id, state) for row_id, state in journal.rows.items() if state.status == DONE)


def _is_renamed(row: Row, state: RowState) -> bool:
    return state.status == DONE and [file["name"] for file in state.files] != _names(row, state)


def _names(row: Row, state: RowState) -> list[str]:
    """Return the names of a state's files if they were those of `row`."""
    return numbered(row.name, [Path(file["name"]).suffix for file in state.files])


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}" if count else ""
