"""Batches that crash at any one of their steps on the disk, and are started again."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.batches import check_complete, manifest, run

pytestmark = pytest.mark.usefixtures("inline")
ROWS = [{"id": "a", "seed": 1}, {"id": "b", "seed": 2}]
STEPS = ("write", "fsync", "link", "unlink", "rename", "replace", "mkdir", "rmdir", "ftruncate")


class Crash(BaseException):
    """Stands in for the end of the process; no code catches it."""


def crash_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Raise Crash at every step on the disk after the first ones. A write at which it crashes writes half.

    Args:
        steps: Number of steps that succeed.
        monkeypatch: Replaces the functions of `os`.
    Returns:
        Callable: Returns the number of steps that are left, below 0 after the crash.
    """
    left = [steps]

    def guarded(name: str, original: Any) -> Any:
        def step(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if left[0] == -1 and name == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise Crash
            return original(*arguments, **options)

        return step

    for name in STEPS:
        monkeypatch.setattr(os, name, guarded(name, getattr(os, name)))
    return lambda: left[0]


def check_no_half_files() -> None:
    """Check that every file that has its final name is complete."""
    for path in Path("out").glob("*.png"):
        with Image.open(path) as image:
            image.load()
    if Path("out/manifest.parquet").exists():
        assert len(manifest()) == len(ROWS)


def test_a_batch_that_crashed_at_any_step_can_be_resumed(tmp_path, monkeypatch):
    steps = 0
    finished = False
    while not finished:
        folder = tmp_path / str(steps)
        folder.mkdir()
        monkeypatch.chdir(folder)
        with monkeypatch.context() as patch:
            left = crash_after(steps, patch)
            try:
                run(ROWS)
                finished = left() >= 0
            except Crash:
                pass
        check_no_half_files()
        run(ROWS)
        check_complete(["a", "b"])
        steps += 1
    assert steps > 20


def test_a_batch_that_crashed_three_times_can_be_resumed(tmp_path, monkeypatch):
    for steps in range(0, 30, 3):
        folder = tmp_path / str(steps)
        folder.mkdir()
        monkeypatch.chdir(folder)
        for _ in range(3):
            with monkeypatch.context() as patch:
                crash_after(steps, patch)
                with suppress(Crash):
                    run(ROWS)
        run(ROWS)
        check_complete(["a", "b"])
    assert Path("out/a.png").is_file()
