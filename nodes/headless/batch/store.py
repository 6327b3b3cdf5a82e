"""Output folder of a batch: images, the manifest, and in `.batch` the journal and temporary files of the rows."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wuerstchen_core.errors import WuerstchenError

from ..errors import UsageError
from .journal import DONE, Journal
from .manifest import NAME
from .names import numbered
from .plan import Plan
from .row_files import publish
from .tasks import RowFile

OWN_FOLDER = ".batch"
_VERSION = 1
"""Version of the journal's format."""


@dataclass
class Store:
    """Files of one batch.

    Attributes:
        folder: Output folder.
        journal: Journal of the batch.
    """

    folder: Path
    journal: Journal

    @property
    def work(self) -> Path:
        """Folder in which workers write."""
        return work_folder(self.folder)

    def begin(self, plan: Plan) -> list[str]:
        """Resume or start: publish journaled files, delete leftovers.

        Args:
            plan: The batch.
        Returns:
            list[str]: Ids of rows that were done but whose files are missing. They are pending again.
        Raises:
            UsageError: The folder holds another batch, or other files under the names of this one.
            OSError: The folder cannot be written.
        """
        header = {"version": _VERSION, "workflow": plan.workflow_digest, "table": plan.table_digest}
        if self.journal.header is None:
            self._check_free(plan)
            self.journal.append("batch", **header, rows=len(plan.rows))
        else:
            self._check_same(header)
        lost = [row.id for index, row in enumerate(plan.rows) if not self._recover(index)]
        self.sweep()
        return lost

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

    def publish(self, row: int) -> None:
        """Move a row's files to the names that the journal records.

        Args:
            row: Index of a row that is done.
        Raises:
            FileExistsError: Another file has the name.
            OSError: The folder cannot be written.
        """
        for file in self.journal.state(row).files:
            publish(self.work / file["staged"], self.folder / file["name"], self.folder)
        for file in self.journal.state(row).files:
            shutil.rmtree((self.work / file["staged"]).parent, ignore_errors=True)

    def _recover(self, row: int) -> bool:
        """Publish the files of a row that is done. Returns False if a file is missing."""
        state = self.journal.state(row)
        there = [(self.work / file["staged"]).exists() or (self.folder / file["name"]).exists() for file in state.files]
        if state.status == DONE and not all(there):
            self.journal.append("again", row=row)
            return False
        if state.status == DONE:
            try:
                self.publish(row)
            except FileExistsError as error:
                self.fail(row, str(error))
        return True

    def fail(self, row: int, error: str) -> None:
        """Record that the files of a row cannot get their names.

        Args:
            row: Index of a row that is done.
            error: Reason.
        """
        state = self.journal.state(row)
        self.journal.append(
            "failed", row=row, attempt=state.attempts, worker=state.worker, seconds=state.seconds, error=error
        )

    def _check_free(self, plan: Plan) -> None:
        taken = [row.name for row in plan.rows if (self.folder / row.name).exists()]
        taken += [NAME] if (self.folder / NAME).exists() else []
        if taken:
            raise UsageError(
                f"{self.folder} already has files that are of no batch: {', '.join(taken[:3])}"
                f"{', ...' if len(taken) > 3 else ''}. Nothing is overwritten; choose another --out or --name."
            )

    def _check_same(self, header: dict[str, object]) -> None:
        theirs = self.journal.header or {}
        parts = {"version": "program", "workflow": "workflow (or --set)", "table": "table (or --name)"}
        for key, part in parts.items():
            if theirs.get(key) != header[key]:
                raise UsageError(
                    f"{self.folder} holds a batch with another {part}. To finish that batch, use its own arguments; "
                    "for a new one, choose another --out."
                )


def work_folder(folder: Path) -> Path:
    """Return the folder in which workers write, below an output folder."""
    return folder / OWN_FOLDER / "work"


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open an output folder and lock it for this process.

    Args:
        folder: Output folder; it is made if it is missing.
    Yields:
        Store: The open folder. An OSError inside the context becomes a WuerstchenError.
    Raises:
        UsageError: Another batch is running in the folder.
        WuerstchenError: The folder cannot be written, or its journal is damaged.
    """
    own = folder / OWN_FOLDER
    try:
        work_folder(folder).mkdir(parents=True, exist_ok=True)
        with FileLock(own / "lock", blocking=False):
            store = Store(folder, Journal(own / "journal.jsonl"))
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
