"""Rows as a Ray Data pipeline, on this machine or on a cluster whose nodes share a file system."""

import dataclasses
import logging
import os
import pickle
from collections.abc import Iterator
from typing import Any

import ray
import ray.data
from ray.exceptions import RayError

from wuerstchen_core.errors import WuerstchenError

from ..row import RowRunner
from ..stages import nodes_before_cut
from ..tasks import Drawn, Event, Failed, Setup, Task
from . import cluster
from .marks import Marks

_LARGEST_CHUNK = 8
"""Rows that one actor takes at a time; more of a group are shared among several."""


class RayEngine:
    """Runs tasks in actors. As a context, which leaves the cluster, and ends one that it started.

    Args:
        setup: what all rows share; its threads do not count here.
        workers: actors; with the layout "staged", before and behind the cut so many each.
        threads: for each actor; its share of the cluster where None.
        address: of a cluster; None for one of this machine's own.
        layout: "fused": an actor runs whole rows. "staged": see `stages`.
    Raises:
        UsageError: the actors do not fit into the cluster, a node cannot take part, or the workflow cannot be cut.
        BackendError: there is no cluster.
    """

    def __init__(
        self, setup: Setup, workers: int, threads: int | None, *, address: str | None = None, layout: str = "fused"
    ) -> None:
        if layout == "staged":
            nodes_before_cut(setup.prepared.prompt, setup.make_catalog())
        self._setup, self._workers, self._threads = setup, workers, threads
        self._address, self._layout = address, layout
        self._actors = workers * (2 if layout == "staged" else 1)

    def __enter__(self) -> "RayEngine":
        cores = os.cpu_count() or 1
        threads = self._threads or max(1, cores // self._actors)
        cluster.join(self._address, self._actors * threads + 1)
        try:
            self._share = cluster.shares(self._actors, self._threads)
            cluster.check_nodes(self._setup.folder)
        except BaseException:
            ray.shutdown()
            raise
        self._setup = dataclasses.replace(self._setup, threads=self._share.cpus)
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def run(self, tasks: list[Task]) -> Iterator[Event]:
        """Run tasks, and tell of each when it ends. One that ends three processes is quarantined."""
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = 0  # else Ray Data drops what fails, and says nothing
        context.target_max_block_size = 1  # a row is passed on when it is done, not when there are many
        chunks = _chunks(tasks)
        dataset: Any = ray.data.from_items(
            [{"tasks": pickle.dumps(each)} for each in chunks], override_num_blocks=len(chunks)
        )
        for actor in (_Before, _Behind) if self._layout == "staged" else (_Whole,):
            dataset = dataset.map_batches(
                actor,
                fn_constructor_args=(self._setup,),
                compute=ray.data.ActorPoolStrategy(size=self._workers),
                batch_size=1,
                num_cpus=self._share.cpus,
                num_gpus=self._share.gpus,
            )
        try:
            for row in dataset.iter_rows():
                yield pickle.loads(row["event"])
        except RayError as error:
            cause = str(error).strip().splitlines()[-1]
            raise WuerstchenError(f"Ray cannot go on: {cause}. What is finished is kept; start it again.") from error


class _Whole:
    """An actor that runs rows from the text to the picture."""

    def __init__(self, setup: Setup) -> None:
        self._runner = RowRunner(setup)
        self._marks = Marks(setup.folder / "whole")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task in (task for chunk in batch["tasks"] for task in pickle.loads(chunk)):
            event = self._marks.once(task, self._runner.worker, lambda task=task: self._runner.draw(task))
            yield {"event": [pickle.dumps(event)]}


class _Before:
    """An actor that runs rows up to the cut."""

    def __init__(self, setup: Setup) -> None:
        self._runner = RowRunner(setup)
        self._marks = Marks(setup.folder / "before")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task in (task for chunk in batch["tasks"] for task in pickle.loads(chunk)):
            values = self._marks.once(task, self._runner.worker, lambda task=task: self._runner.draft(task))
            yield {"task": [pickle.dumps(task)], "values": [pickle.dumps(values)]}


class _Behind:
    """An actor that runs rows from the cut on."""

    def __init__(self, setup: Setup) -> None:
        self._runner = RowRunner(setup)
        self._marks = Marks(setup.folder / "behind")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task_data, data in zip(batch["task"], batch["values"], strict=True):
            task, values = pickle.loads(task_data), pickle.loads(data)
            event = (
                values
                if isinstance(values, Failed)
                else self._marks.once(
                    task, self._runner.worker, lambda task=task, values=values: self._runner.draw(task, values.outputs)
                )
            )
            if isinstance(event, Drawn):
                event = dataclasses.replace(event, seconds=round(event.seconds + values.seconds, 3))
            yield {"event": [pickle.dumps(event)]}


def _chunks(tasks: list[Task]) -> list[list[Task]]:
    """Neighbours of one group together."""
    chunks: list[list[Task]] = []
    for task in tasks:
        if chunks and chunks[-1][-1].group == task.group and len(chunks[-1]) < _LARGEST_CHUNK:
            chunks[-1].append(task)
        else:
            chunks.append([task])
    return chunks
