"""Cheap nodes, a workflow of them, and ways to run it, for the tests of batches."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pyarrow import parquet

from support.workflows import node
from wuerstchen_nodes.headless import load_workflow
from wuerstchen_nodes.headless.batch import command
from wuerstchen_nodes.headless.batch.row import RowRunner
from wuerstchen_nodes.headless.batch.tasks import Event, Setup, Started, Task
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow.catalog import Catalog

DEADLY, BROKEN = 13, 7
"""Values of Paint that end its process, and that make it fail."""


def ran(name: str) -> int:
    """How often a node of that name ran, in any process (tests run in a folder of their own)."""
    log = Path("ran.log")
    return log.read_text().split().count(name) if log.exists() else 0


def _note(name: str) -> None:
    folder = os.environ.get("BATCH_TEST_FOLDER")
    if folder:
        with Path(folder, "ran.log").open("a") as log:
            log.write(f"{name}\n")


class LoadBrush:
    FUNCTION, RETURN_TYPES = "load", ("BRUSH",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"width": ("INT", {"default": 8, "min": 1, "max": 64})}}

    def load(self, width: int) -> tuple[int]:
        _note("LoadBrush")
        return (width,)


class Draft:
    """Stands for Stage C: what rows share."""

    FUNCTION, RETURN_TYPES = "draft", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "brush": ("BRUSH", {}),
                "value": ("INT", {"default": 1}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
            }
        }

    def draft(self, brush: int, value: int, seed: int) -> tuple[dict[str, Any]]:
        _note("Draft")
        noise = torch.rand((1, 3, brush, brush), generator=torch.Generator().manual_seed(seed))
        return ({"samples": (noise + value % 10) / 10},)


class Paint:
    FUNCTION, RETURN_TYPES = "paint", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "draft": ("LATENT", {}),
                "value": ("INT", {"default": 1}),
                "pictures": ("INT", {"default": 1, "min": 0}),
            }
        }

    def paint(self, draft: dict[str, Any], value: int, pictures: int) -> tuple[torch.Tensor]:
        _note("Paint")
        if value == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if value == BROKEN:
            raise ValueError("the brush is broken")
        image = (draft["samples"] + value % 50 / 100).clamp(0, 1).movedim(1, -1)
        return (torch.cat([image / (index + 1) for index in range(pictures)] or [image[:0]]),)


def make_catalog() -> Catalog:
    """The cheap nodes and the usual ones; Draft under the name of what rows share."""
    stock = default_catalog()
    return Catalog({**stock.classes, "LoadBrush": LoadBrush, "WuerstchenStageCSampler": Draft, "Paint": Paint})


def catalog_of_the_parent() -> Catalog:
    """Works in the process that started the batch and in no other."""
    if "wuerstchen_nodes.headless.batch.job" not in sys.modules:
        raise RuntimeError("no nodes here")
    return make_catalog()


def workflow() -> dict[str, Any]:
    """A brush, a draft, a picture."""
    return {
        "1": node("LoadBrush", "Brush", width=8),
        "2": node("WuerstchenStageCSampler", "Draft", brush=["1", 0], value=1, seed=0),
        "3": node("Paint", "Paint", draft=["2", 0], value=1, pictures=1),
        "4": node("SaveImage", "Save", images=["3", 0], filename_prefix="x"),
    }


class InlineEngine:
    """Runs tasks in this process."""

    def __init__(self, setup: Setup, *_: object) -> None:
        self.setup = setup

    def __enter__(self) -> "InlineEngine":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tasks: list[Task]) -> Iterator[Event]:
        runner = RowRunner(self.setup, "cpu")
        for task in tasks:
            yield Started(task.row, task.attempt, runner.worker)
            yield runner.draw(task)


def write_rows(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    """A table of JSON lines."""
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(rows: list[dict[str, Any]], document: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run a batch of the cheap workflow into ./out."""
    options = {"workers": 1, "threads": 1, "make_catalog": make_catalog, **options}
    return command.run_batch(load_workflow(document or workflow()), write_rows(rows), Path("out"), **options)


def manifest(folder: str = "out") -> list[dict[str, Any]]:
    """The manifest's rows."""
    return parquet.read_table(Path(folder) / "manifest.parquet").to_pylist()


def check_complete(ids: list[str], folder: str = "out") -> None:
    """Every row is done in the table's order, its one picture is there as the manifest says, and nothing else is."""
    rows = manifest(folder)
    assert [row["id"] for row in rows] == ids
    assert {row["status"] for row in rows} == {"done"}
    assert [row["files"] for row in rows] == [[f"{each}.png"] for each in ids]
    for row in rows:
        data = Path(folder, row["files"][0]).read_bytes()
        assert [hashlib.sha256(data).hexdigest()] == row["sha256"]
    there = {path.name for path in Path(folder).iterdir()}
    assert there == {*(f"{each}.png" for each in ids), "manifest.parquet", ".batch"}
    assert list(Path(folder, ".batch", "work").iterdir()) == []


COPY = {
    "1": node("LoadImage", image="1.png"),
    "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
}
COPIES = [str(number) for number in range(1, 65)]


def write_copying() -> None:
    """A workflow of stock nodes that copies a picture, and a table of 64 of them, large enough to be interrupted."""
    Path("copy.json").write_text(json.dumps(COPY))
    for number in COPIES:
        Image.new("RGB", (768, 768), (int(number), 0, 0)).save(f"{number}.png")
    write_rows([{"id": number, "Load Image.image": f"{number}.png"} for number in COPIES])


def start_copying(*options: str, workers: int = 1) -> subprocess.Popen[bytes]:
    """`wuerstchen batch` on them, as a process of its own, which Ctrl-C reaches even where the tests do not heed it."""
    command = [sys.executable, "-m", "wuerstchen_nodes.headless.cli", "batch", "copy.json", "rows.jsonl"]
    command += ["--out", "out", "--workers", str(workers), "--threads", "1", "--json", *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finished_lines(process: subprocess.Popen[bytes], count: int) -> None:
    """Wait until it has told of so many rows, or has ended."""
    assert process.stdout is not None
    while count and (line := process.stdout.readline()):
        count -= b'"row"' in line
