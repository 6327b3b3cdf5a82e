"""The output folder of a batch: pictures, the manifest, and in `.batch` the journal and files without a name yet."""

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
from .staging import publish
from .tasks import StagedFile

OWN_FOLDER = ".batch"
_VERSION = 1


@dataclass
class Store:
    """What one batch has on the disk. folder: the output folder. work: where workers write."""

    folder: Path
    journal: Journal

    @property
    def work(self) -> Path:
        return work_folder(self.folder)

    def begin(self, plan: Plan) -> list[str]:
        """Take up an interrupted batch, or begin one: names that were promised are given, what is left over goes.

        Returns:
            the ids of rows that were done and whose files are gone; they are to be drawn again.
        Raises:
            UsageError: the folder holds another batch, or files of other origin under the batch's names.
            OSError: it cannot be written to.
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
        """Take away what workers left behind. No worker may be running."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)

    def promise(self, files: list[StagedFile], name: str) -> list[dict[str, str]]:
        """What the journal says of a row's files: where they are, and what they will be called."""
        names = numbered(name, [file.suffix for file in files])
        return [
            {"staged": file.path, "name": each, "sha256": file.sha256} for file, each in zip(files, names, strict=True)
        ]

    def publish(self, row: int) -> None:
        """Give a row's files their names. Raises: FileExistsError, a name is taken; OSError."""
        for file in self.journal.state(row).files:
            publish(self.work / file["staged"], self.folder / file["name"], self.folder)
        for file in self.journal.state(row).files:
            shutil.rmtree((self.work / file["staged"]).parent, ignore_errors=True)

    def _recover(self, row: int) -> bool:
        """Finish what was promised; False for a row whose files are gone."""
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
        """Say that a row that was drawn has no files after all."""
        state = self.journal.state(row)
        self.journal.append(
            "failed", row=row, attempt=state.attempts, worker=state.worker, seconds=state.seconds, error=error
        )

    def _check_free(self, plan: Plan) -> None:
        taken = [row.name for row in plan.rows if (self.folder / row.name).exists()]
        taken += [NAME] if (self.folder / NAME).exists() else []
        if taken:
            raise UsageError(
                f"{self.folder} has files already that are of no batch: {', '.join(taken[:3])}"
                f"{', ...' if len(taken) > 3 else ''}. Nothing is overwritten; choose another --out or --name."
            )

    def _check_same(self, header: dict[str, object]) -> None:
        theirs = self.journal.header or {}
        parts = {"version": "program", "workflow": "workflow (or what --set says)", "table": "table (or --name)"}
        for key, what in parts.items():
            if theirs.get(key) != header[key]:
                raise UsageError(
                    f"{self.folder} holds a batch with another {what}. To finish that one, start it as it was; for "
                    "the new one choose another --out."
                )


def work_folder(folder: Path) -> Path:
    """Where workers write their files, below the output folder."""
    return folder / OWN_FOLDER / "work"


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """The output folder, made where it is not there, for this process alone.

    Raises:
        UsageError: another batch runs in it.
        WuerstchenError: it cannot be written to, or its journal is damaged.
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
    except BrokenPipeError:  # of whoever read our output
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise WuerstchenError(
            f"Cannot write to the output folder {folder}: {error.strerror or error}{where}. Nothing that was finished "
            "is lost: see to it, and start the same command again."
        ) from error
