"""Batches that are killed, whose disk is full, or whose folder is taken away: no picture is lost or doubled."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from support.attacks import within
from support.batches import (
    COPIES,
    ENDS,
    HUNGRY,
    InlineEngine,
    check_complete,
    finished_lines,
    manifest,
    ran,
    run,
    start_copying,
    write_copying,
)
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless.batch import command, job

ROWS = [{"id": str(number), "seed": number} for number in range(1, 7)]
IDS = [row["id"] for row in ROWS]
KILLS = 15
"""Kills of a batch of 64 rows with 1 worker, and with 2."""
JOURNAL = Path("out/.batch/journal.jsonl")


def pictures(folder: str = "out") -> dict[str, str]:
    """Return the digest of every picture in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).glob("*.png")}


def done_once() -> bool:
    """Return whether the journal has one end for every row that is done."""
    records = [json.loads(line) for line in JOURNAL.read_text().splitlines()]
    return set(Counter(each["id"] for each in records if each["event"] == "done").values()) == {1}


class Failing:
    """Steps on the disk that fail from a given one on, for as long as it is a context."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, number: int) -> None:
        self.left = after
        for name in ("write", "fsync", "link", "unlink", "rename", "replace", "mkdir", "ftruncate"):
            monkeypatch.setattr(os, name, self._guarded(getattr(os, name), number))

    def _guarded(self, original: Any, number: int) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(number, os.strerror(number))
            return original(*arguments, **options)

        return step


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, *(pytest.param(each, marks=pytest.mark.long) for each in (errno.EROFS, errno.EIO))]
)
def test_a_disk_that_fails_from_any_step_on_is_one_error_and_the_batch_goes_on(tried, tmp_path, monkeypatch, number):
    steps = 0
    finished = False
    while not finished:
        folder = tmp_path / str(steps)
        folder.mkdir()
        monkeypatch.chdir(folder)
        with monkeypatch.context() as patch:
            failing = Failing(patch, steps, number)
            try:
                run(ROWS[:2])
            except WuerstchenError as error:
                assert os.strerror(number) in str(error) and "are kept" in str(error)
            finished = failing.left >= 0
        before = pictures()
        run(ROWS[:2])
        check_complete(IDS[:2])
        assert pictures().items() >= before.items() and done_once()
        steps += 1
    assert steps > 20
    tried(steps)


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a small file system in memory at ./disk. Skips the test where that is not allowed."""
    disk = Path("disk")
    disk.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.usefixtures("inline")
def test_a_disk_that_is_full_and_freed_again_loses_no_picture(tried):
    with small_disk("256k") as disk:
        Path("out").symlink_to(disk.absolute())
        stopped = 0
        for free in range(0, 160, 8):
            for path in disk.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            filler = disk / "filler"
            with filler.open("wb") as file:
                try:
                    file.write(b"x" * (256 - free) * 1024)
                    file.flush()
                except OSError:
                    pass
            try:
                run(ROWS)
            except WuerstchenError as error:
                assert "No space left" in str(error) and "kept" in str(error)
                stopped += 1
            before = pictures()
            filler.unlink()
            run(ROWS)
            assert [row["status"] for row in manifest()] == ["done"] * 6
            assert pictures().items() >= before.items() and len(pictures()) == 6 and done_once()
        assert stopped > 3
    tried(20)


class TakingAway(InlineEngine):
    """Engine that takes the output folder away before one of its events is recorded."""

    at = 0

    def run(self, tasks):
        for number, event in enumerate(super().run(tasks)):
            if number == self.at:
                self.take()
            yield event

    def take(self) -> None:
        Path("out").rename("elsewhere")


class Deleting(TakingAway):
    """Engine that deletes the output folder."""

    def take(self) -> None:
        shutil.rmtree("out")


class Replacing(TakingAway):
    """Engine that puts another folder in the place of the output folder."""

    def take(self) -> None:
        Path("out").rename("elsewhere")
        Path("out/.batch/work").mkdir(parents=True)


@pytest.mark.parametrize("at", range(2 * len(ROWS)))
@pytest.mark.parametrize("engine", [TakingAway, Deleting, Replacing])
def test_a_folder_that_is_taken_away_is_not_made_again_and_goes_on_when_it_is_back(tried, monkeypatch, engine, at):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "at", at)
        patch.setattr(command, "_engine", lambda kind, setup, *_: engine(setup))
        with pytest.raises(WuerstchenError, match=r"was moved or deleted|No such file"):
            run(ROWS)
    monkeypatch.setattr(command, "_engine", lambda kind, setup, *_: InlineEngine(setup))
    if engine is Replacing:
        assert [path.name for path in Path("out").rglob("*")] == [".batch", "work"]
        shutil.rmtree("out")
    assert not Path("out").exists()
    if engine is not Deleting:
        Path("elsewhere").rename("out")
    before = pictures()
    run(ROWS)
    check_complete(IDS)
    assert pictures().items() >= before.items() and done_once()
    assert ran("Paint") <= len(ROWS) + (at + 2) // 2 - len(before)
    tried(1)


@pytest.mark.long
def test_rows_that_end_their_process_are_set_aside_and_the_others_run(tried, monkeypatch):
    """A row that takes all memory fails, and its process goes on. See `test_workers` for three attempts."""
    monkeypatch.setattr(job, "MAX_DEATHS", 1)
    rows: list[dict[str, Any]] = [{"id": str(value), "Paint.value": value} for value in (*ENDS, HUNGRY)]
    rows += [{"id": "good", "seed": 1}, {"id": "too", "seed": 2}]
    summary = run(rows, workers=2)
    assert summary.counts == {"quarantined": len(ENDS), "failed": 1, "done": 2} and not summary.complete
    errors = {row["id"]: row["error"] for row in manifest()}
    assert all("its worker process died" in errors[str(value)] for value in ENDS)
    assert "SIGSEGV" in errors["1001"] and "exit code 3" in errors["1002"] and "exit code 0" in errors["1003"]
    assert "signal 40" in errors["1004"] and "SIGABRT" in errors["1006"] and "MemoryError" in errors[str(HUNGRY)]
    assert done_once()
    tried(len(ENDS) + 1)


def end(process: subprocess.Popen[bytes], number: int, *, all_of_them: bool = True) -> tuple[int, bytes]:
    """Send a signal to a batch and its workers, or to the parent alone; return its exit code and what it printed."""
    (os.killpg if all_of_them else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


@pytest.mark.usefixtures("inline")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking where torch has threads, which are idle
def test_a_batch_that_is_killed_at_40_random_moments_draws_every_row_once(tried):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rows = [{"id": str(number), "seed": number} for number in range(64)]
    run(rows)
    expected = pictures()
    kills = 0
    while kills < 40:
        shutil.rmtree("out")
        status = signal.SIGKILL
        before: dict[str, str] = {}
        while kills < 40 and status == signal.SIGKILL:
            child = os.fork()
            if child == 0:
                tqdm.set_lock(threading.RLock())  # tqdm's own is shared with forks: who is killed would keep it
                try:
                    run(rows)
                finally:
                    os._exit(0)
            time.sleep(chance.random() * 0.2)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            kills += status == signal.SIGKILL
            now = pictures()
            assert now.items() >= before.items()
            before = now
        run(rows)
        check_complete([row["id"] for row in rows])
        assert done_once() and pictures() == expected
    tried(kills)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_that_is_killed_with_its_workers_at_random_moments_draws_every_row_once(tried, workers):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    write_copying()
    before: dict[str, str] = {}
    number = 0
    while number < KILLS:
        process = start_copying(workers=workers)
        finished_lines(process, 0 if number % 3 == 0 else chance.randint(1, 3))
        time.sleep(chance.random() * (2 if number % 3 == 0 else 0.05))
        if process.poll() is not None:  # it was quicker: begin anew
            process.communicate()
            shutil.rmtree("out")
            before = {}
            continue
        end(process, signal.SIGKILL, all_of_them=number % 2 == 0)
        number += 1
        now = pictures()
        assert now.items() >= before.items()
        before = now
    process = start_copying(workers=workers)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    check_complete(COPIES)
    assert done_once() and pictures().items() >= before.items()
    expected = pictures()
    shutil.rmtree("out")
    process = start_copying(workers=1)
    process.communicate(timeout=120)
    assert pictures() == expected
    tried(KILLS)


@pytest.mark.long
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT] * 2], ids=str)
def test_a_batch_that_is_ended_by_a_signal_leaves_no_process_and_goes_on(tried, signals):
    write_copying()
    process = start_copying(workers=2)
    finished_lines(process, 3)
    for number in signals[:-1]:
        os.killpg(process.pid, number)
        time.sleep(0.05)
    code, output = end(process, signals[-1])
    assert b"Traceback" not in output
    assert code == (130 if signal.SIGINT in signals else -signals[-1])
    with within(10), pytest.raises(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    process = start_copying()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    check_complete(COPIES)
    assert done_once()
    tried(1)
