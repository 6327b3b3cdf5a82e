"""Output folder of a batch: images, the manifest, and in `.batch` the journal and temporary files of the rows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wuerstchen_core.errors import WuerstchenError

from ...errors import UsageError
from ..rows.names import numbered
from ..rows.plan import Plan
from ..tasks import RowFile
from .changes import Changes, Move, compare
from .journal import DONE, Journal
from .row_files import is_file, is_inside, is_regular, linked, publish
from .takeover import check_changes, header_of, upgraded

OWN_FOLDER = ".batch"
_MOVES = 10_000
"""Most renamed rows of a record. The journal has further records for further rows, as its lines are bounded."""


@dataclass
class Store:
    """Files of one batch.

    Attributes:
        folder: Output folder.
        journal: Journal of the batch.
    """

    folder: Path
    journal: Journal
    _used: set[str] = field(default_factory=set)
    """Names of the files of all rows that are done."""

    @property
    def work(self) -> Path:
        """Folder in which workers write."""
        return work_folder(self.folder)

    def begin(self, plan: Plan, *, replaces: bool = False) -> tuple[Changes, list[str]]:
        """Resume or start: publish journaled files, take over a table that has changed, delete leftovers.

        Args:
            plan: The batch.
            replaces: Replace many images although no row is as it was.
        Returns:
            tuple[Changes, list[str]]: Changes since the last run; ids of rows that were done but whose files are
            missing, which are pending again.
        Raises:
            UsageError: The folder seems to hold another batch, or has other files under the names of this one.
            OSError: The folder cannot be written.
        """
        upgrade = upgraded(self.journal, plan, self.folder)
        if upgrade is not None:
            self.journal.append("batch", **upgrade)
        lost = self._recover()
        changes = compare(plan, self.journal, self.folder)
        check_changes(plan, changes, self.journal, self.folder, replaces=replaces)
        self._take_over(plan, changes)
        self.sweep()
        return changes, [row_id for row_id in lost if row_id in self.journal.rows]

    def sweep(self) -> None:
        """Delete the temporary files of all workers, none of which may be running."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)

    def named(self, files: list[RowFile], name: str) -> list[dict[str, str]]:
        """Return the files of a row with their final names, as the journal records them.

        Args:
            files: Files of the row.
            name: Name of its first image.
        """
        names = numbered(name, [file.suffix for file in files])
        return [
            {"staged": file.path, "name": each, "sha256": file.sha256} for file, each in zip(files, names, strict=True)
        ]

    def publish(self, row_id: str) -> None:
        """Move a row's files to the names that the journal records, and delete those of its earlier contents.

        Args:
            row_id: Id of a row that is done.
        Raises:
            FileExistsError: A file that is not of this batch has the name.
            OSError: The folder cannot be written.
        """
        files = self.journal.state(row_id).files
        for file in files:
            ours = self.journal.written[file["name"]]
            publish(self.work / file["staged"], self.folder / file["name"], self.folder, ours)
        for file in files:
            shutil.rmtree((self.work / file["staged"]).parent, ignore_errors=True)
        self._used.update(file["name"] for file in files)
        for state in self.journal.earlier.get(row_id, []):
            self._delete(state.files)

    def images_left(self, row_id: str) -> list[dict[str, str]]:
        """Return the files that an earlier content of a row has left in the folder."""
        states = self.journal.earlier.get(row_id, [])[-1:]
        files = [file for state in states for file in state.files if file["name"] not in self._used]
        return [file for file in files if self._is_there(file)]

    def fail(self, row_id: str, error: str) -> None:
        """Record that the files of a row cannot get their names.

        Args:
            row_id: Id of a row that is done.
            error: Reason.
        """
        state = self.journal.state(row_id)
        self.journal.append(
            "failed", id=row_id, attempt=state.attempts, worker=state.worker, seconds=state.seconds, error=error
        )

    def _recover(self) -> list[str]:
        """Publish the files of all rows that are done, and return the ids of those of which a file is missing."""
        done = [row_id for row_id, state in self.journal.rows.items() if state.status == DONE]
        self._used = self._names_in_use()
        lost = []
        for row_id in done:
            if not all(self._is_there(file) for file in self.journal.rows[row_id].files):
                lost.append(row_id)
            else:
                self._publish_or_fail(row_id)
        if lost:
            self.journal.append_all("again", [{"id": row_id} for row_id in lost])
        return lost

    def _is_there(self, file: dict[str, str]) -> bool:
        """Return whether a file is there, under its own name or a temporary one."""
        path = self.folder / file["name"]
        if is_regular(self.work / file["staged"]):
            return True
        is_only = len(self.journal.written[file["name"]]) == 1  # else it may be an earlier image of that name
        return is_regular(path) and (is_only or is_file(path, {file["sha256"]}))

    def _publish_or_fail(self, row_id: str) -> None:
        try:
            self.publish(row_id)
        except FileExistsError as error:
            self.fail(row_id, str(error))

    def _take_over(self, plan: Plan, changes: Changes) -> None:
        """Record a table or workflow that is new, and rename the images of its moved rows."""
        header = header_of(plan)
        if not changes.moves and self.journal.header is not None and header.items() <= self.journal.header.items():
            return
        for start in range(0, max(len(changes.moves), 1), _MOVES):
            moved = [
                self._staged(number, move) for number, move in enumerate(changes.moves[start : start + _MOVES], start)
            ]
            self.journal.append("batch", **header, moved=moved)
        self._used = self._names_in_use()
        for move in changes.moves:
            self._publish_or_fail(move.row.id)

    def _staged(self, number: int, move: Move) -> dict[str, Any]:
        """Link the files of an image that gets another name to temporary names, and return the journal's record."""
        folder = self.work / f"moved-{number}-{os.urandom(4).hex()}"
        files: list[dict[str, str]] = []
        for index, (file, name) in enumerate(zip(move.state.files, move.names, strict=True), 1):
            staged = folder / f"{index}{Path(name).suffix}"
            linked(self.folder / file["name"], staged)
            files.append({**file, "staged": staged.relative_to(self.work).as_posix(), "name": name})
        state = replace(move.state, digest=move.row.digest, files=files)
        return {"id": move.row.id, "state": asdict(state), "old": move.state.files}

    def _names_in_use(self) -> set[str]:
        return {file["name"] for state in self.journal.rows.values() for file in state.files}

    def _delete(self, files: list[dict[str, str]]) -> None:
        """Delete images that no row has any more. Files that were changed by hand stay."""
        for file in files:
            path = self.folder / file["name"]
            is_unused = file["name"] not in self._used and is_inside(path, self.folder)
            if is_unused and is_file(path, {file["sha256"]}):
                path.unlink()


def work_folder(folder: Path) -> Path:
    """Return the folder in which workers write, below an output folder."""
    return folder / OWN_FOLDER / "work"


def journal_file(folder: Path) -> Path:
    """Return the path of the journal, below an output folder."""
    return folder / OWN_FOLDER / "journal.jsonl"


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open an output folder and lock it for this process.

    Args:
        folder: Output folder; it is made if it is missing.
    Yields:
        Store: The open folder. An OSError inside the context becomes a WuerstchenError.
    Raises:
        UsageError: Another batch is running in the folder, or links in it lead elsewhere.
        WuerstchenError: The folder cannot be written, or its journal is damaged.
    """
    try:
        for path in (folder / OWN_FOLDER, work_folder(folder), folder / OWN_FOLDER / "lock", journal_file(folder)):
            if path.is_symlink():  # what is behind it would be emptied or written to
                raise UsageError(f"{path} is a link to somewhere else. Remove it, or choose another --out.")
        work_folder(folder).mkdir(parents=True, exist_ok=True)
        with FileLock(folder / OWN_FOLDER / "lock", blocking=False):
            store = Store(folder, Journal(journal_file(folder)))
            store.journal.open()
            try:
                yield store
            finally:
                store.journal.close()
    except Timeout as error:
        raise UsageError(f"Another batch is running in {folder}. Wait for it, or choose another --out.") from error
    except BrokenPipeError:  # stdout was closed; the folder is fine
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise WuerstchenError(
            f"Cannot write to the output folder {folder}: {error.strerror or error}{where}. Finished rows are kept. "
            "Solve the problem and start the same command again to continue."
        ) from error
