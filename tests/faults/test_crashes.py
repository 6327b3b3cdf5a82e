"""A batch that ends at any one of its steps on the disk, and is started again."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.batches import check_complete, run

pytestmark = pytest.mark.usefixtures("inline")
ROWS = [{"id": "a", "seed": 1}, {"id": "b", "seed": 2}]
STEPS = ("write", "fsync", "link", "unlink", "rename", "replace", "mkdir", "rmdir", "ftruncate")


class Crash(BaseException):
    """Nothing catches it."""


def crash_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let so many steps on the disk happen, and no more; the last line that is written is cut in half."""
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


def test_wherever_it_ends_it_goes_on_to_the_same_result(tmp_path, monkeypatch):
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
        run(ROWS)
        check_complete(["a", "b"])
        steps += 1
    assert steps > 20


def test_twice_in_a_row(tmp_path, monkeypatch):
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
