"""Batches that crash at any one of their steps on the disk, and are started again."""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.batches import check_complete, manifest, ran, run

pytestmark = pytest.mark.usefixtures("inline")
ROWS = [{"id": "a", "seed": 1}, {"id": "b", "seed": 2}]
EARLIER = [*ROWS, {"id": "c", "seed": 3}]
CORRECTED = [{"id": "a", "seed": 9}, {"id": "b", "seed": 1}, {"id": "d", "seed": 2}]
"""The row a is corrected, the images of a and b get other names, and c is removed."""
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
        assert len(manifest()) in (len(ROWS), len(EARLIER))


def finishes(rows, steps: int, monkeypatch) -> bool:
    """Run a batch that crashes after some steps, and return whether it was done before."""
    with monkeypatch.context() as patch:
        left = crash_after(steps, patch)
        try:
            run(rows)
        except Crash:
            return False
        return left() >= 0


def test_a_batch_that_crashed_at_any_step_can_be_resumed(tmp_path, monkeypatch):
    steps = 0
    finished = False
    while not finished:
        folder = tmp_path / str(steps)
        folder.mkdir()
        monkeypatch.chdir(folder)
        finished = finishes(ROWS, steps, monkeypatch)
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


def images() -> dict[str, str]:
    """Return the digest of every image with its final name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path("out").glob("*.png")}


def test_a_corrected_batch_that_crashed_at_any_step_loses_no_image_and_draws_none_again(tmp_path, monkeypatch):
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.chdir(first)
    run(EARLIER)
    before = images()
    expected = {"b.png": before["a.png"], "d.png": before["b.png"], "c.png": before["c.png"]}
    steps = 0
    finished = False
    while not finished:
        folder = tmp_path / str(steps)
        shutil.copytree(first / "out", folder / "out")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("BATCH_TEST_FOLDER", str(folder))
        finished = finishes(CORRECTED, steps, monkeypatch)
        check_no_half_files()
        there = {hashlib.sha256(path.read_bytes()).hexdigest() for path in Path("out").rglob("*.png")}
        assert there >= set(before.values()), f"an image was lost at step {steps}"
        run(CORRECTED)
        assert {row["id"]: (row["status"], row["files"]) for row in manifest()} == {
            each: ("done", [f"{each}.png"]) for each in "abd"
        }
        now = images()
        assert {name: digest for name, digest in now.items() if name != "a.png"} == expected
        assert now["a.png"] not in before.values()
        assert ran("Paint") <= 2
        assert list(Path("out/.batch/work").iterdir()) == []
        steps += 1
        shutil.rmtree(folder)
    assert steps > 20
