"""Toy nodes, a workflow of them, and functions that run it, for the tests of batches."""

import ctypes
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pyarrow import parquet

from support.attacks import Attack
from support.workflows import node
from wuerstchen_nodes.headless import load_workflow
from wuerstchen_nodes.headless.batch import command
from wuerstchen_nodes.headless.batch.row import RowRunner
from wuerstchen_nodes.headless.batch.tasks import Event, Setup, Started, Task
from wuerstchen_nodes.headless.report import BAD_USAGE
from wuerstchen_nodes.headless.stock.nodes import default_catalog
from wuerstchen_nodes.headless.workflow.catalog import Catalog

DEADLY, BROKEN = 13, 7
"""Values with which Paint kills its process, and with which it raises an error."""


def _take_all_memory() -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**34, limits[1]))
    try:
        bytearray(2**36)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


ENDS: dict[int, Callable[[], object]] = {
    1001: lambda: ctypes.string_at(0),
    1002: lambda: os._exit(3),
    1003: lambda: os._exit(0),
    1004: lambda: os.kill(os.getpid(), signal.SIGRTMIN + 6),
    1005: lambda: sys.exit("enough"),
    1006: lambda: signal.raise_signal(signal.SIGABRT),
    1007: lambda: os.closerange(3, 256),
}
"""Values with which Paint ends its process, and how."""
HUNGRY = 1100
"""Value with which Paint takes more memory than there is."""


def ran(name: str) -> int:
    """Return how often a node class ran in this test, in all processes."""
    log = Path("ran.log")
    return log.read_text().split().count(name) if log.exists() else 0


def _note(name: str) -> None:
    folder = os.environ.get("BATCH_TEST_FOLDER")
    if folder:
        with Path(folder, "ran.log").open("a") as log:
            log.write(f"{name}\n")


class LoadBrush:
    """Stands in for a loader of a network."""

    FUNCTION, RETURN_TYPES = "load", ("BRUSH",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"width": ("INT", {"default": 8, "min": 1, "max": 64})}}

    def load(self, width: int) -> tuple[int]:
        _note("LoadBrush")
        return (width,)


class Draft:
    """Stands in for Stage C Sampler, whose result rows may share."""

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
    """Stands in for Stages B and A."""

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
        if value in ENDS:
            ENDS[value]()
        if value == HUNGRY:
            _take_all_memory()
        if value == BROKEN:
            raise ValueError("the brush is broken")
        image = (draft["samples"] + value % 50 / 100).clamp(0, 1).movedim(1, -1)
        return (torch.cat([image / (index + 1) for index in range(pictures)] or [image[:0]]),)


def make_catalog() -> Catalog:
    """Return the default catalog and the toy nodes, with Draft as Stage C Sampler."""
    stock = default_catalog()
    return Catalog({**stock.classes, "LoadBrush": LoadBrush, "WuerstchenStageCSampler": Draft, "Paint": Paint})


def catalog_of_the_parent() -> Catalog:
    """Return the toy catalog in the process that started the batch. Raises RuntimeError in a worker."""
    if "wuerstchen_nodes.headless.batch.job" not in sys.modules:
        raise RuntimeError("no nodes here")
    return make_catalog()


def workflow() -> dict[str, Any]:
    """Return a workflow of the toy nodes that saves an image."""
    return {
        "1": node("LoadBrush", "Brush", width=8),
        "2": node("WuerstchenStageCSampler", "Draft", brush=["1", 0], value=1, seed=0),
        "3": node("Paint", "Paint", draft=["2", 0], value=1, pictures=1),
        "4": node("SaveImage", "Save", images=["3", 0], filename_prefix="x"),
    }


class InlineEngine:
    """Engine that runs tasks in this process."""

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
    """Write a table of JSON lines, and return its path."""
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(rows: list[dict[str, Any]], document: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run a batch of the toy workflow, or of `document`, into ./out."""
    options = {"workers": 1, "threads": 1, "make_catalog": make_catalog, **options}
    report = options.pop("report", None)
    loaded = load_workflow(document or workflow())
    return command.run_batch(command.Batch(loaded, write_rows(rows), Path("out"), **options), report)


def manifest(folder: str = "out") -> list[dict[str, Any]]:
    """Return the rows of the manifest."""
    return parquet.read_table(Path(folder) / "manifest.parquet").to_pylist()


def check_complete(ids: list[str], folder: str = "out") -> None:
    """Check that every row is done and has one image with the recorded digest, and that there are no other files."""
    rows = manifest(folder)
    assert [row["id"] for row in rows] == ids
    assert {row["status"] for row in rows} == {"done"}
    assert [row["files"] for row in rows] == [[f"{each}.png"] for each in ids]
    for row in rows:
        data = Path(folder, row["files"][0]).read_bytes()
        assert [hashlib.sha256(data).hexdigest()] == row["sha256"]
    there = {path.name for path in Path(folder).iterdir()}
    assert there == {*(f"{each}.png" for each in ids), "manifest.parquet", "index.html", ".batch"}
    assert list(Path(folder, ".batch", "work").iterdir()) == []


COPY = {
    "1": node("LoadImage", image="1.png"),
    "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
}
COPIES = [str(number) for number in range(1, 65)]


def write_copying() -> None:
    """Write a workflow that copies an image, and a table of 64 rows, enough to interrupt the batch at any point."""
    Path("copy.json").write_text(json.dumps(COPY))
    for number in COPIES:
        Image.new("RGB", (768, 768), (int(number), 0, 0)).save(f"{number}.png")
    write_rows([{"id": number, "Load Image.image": f"{number}.png"} for number in COPIES])


def write_one_copy() -> None:
    """Write a workflow that copies an image, and the image, for attacks with tables."""
    Path("copy.json").write_text(json.dumps(COPY))
    Image.new("RGB", (8, 8)).save("1.png")


def check_refused(attack: Attack, table: str, *options: str) -> str:
    """Check that a table for `copy.json` is refused in one line, and that no folder was made; return the line."""
    code, error = attack.here("batch", "copy.json", table, "--out", "out", *options, codes=frozenset({BAD_USAGE}))
    assert code == BAD_USAGE
    assert not Path("out").exists()
    return error


def start_copying(*options: str, workers: int = 1) -> subprocess.Popen[bytes]:
    """Start `wuerstchen batch` on the files of `write_copying`, in a process group that gets SIGINT as from Ctrl-C."""
    command = [sys.executable, "-m", "wuerstchen_nodes.headless.cli", "batch", "copy.json", "rows.jsonl"]
    command += ["--out", "out", "--workers", str(workers), "--threads", "1", "--json", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finished_lines(process: subprocess.Popen[bytes], count: int) -> None:
    """Read stdout until it has reported `count` rows, or has ended."""
    assert process.stdout is not None
    while count and (line := process.stdout.readline()):
        count -= b'"row"' in line
