"""Engine that runs rows as a Ray Data pipeline, on this machine or on a cluster whose nodes share a file system."""

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

from ..cut import nodes_before_cut
from ..row import RowRunner
from ..tasks import Drawn, Event, Failed, Setup, Task
from . import cluster
from .attempts import Attempts

_MAX_CHUNK = 8
"""Rows that one actor receives at a time. A larger group is split among actors."""


class RayEngine:
    """Engine that runs tasks in Ray actors. As a context, it joins the cluster, or starts one and ends it.

    Args:
        setup: Settings that all rows share; `threads` is replaced.
        workers: Number of actors; with the layout "staged", on each side of the cut.
        threads: CPU threads of each actor; None for its share of the cluster.
        address: Address of a cluster; None to start one on this machine.
        layout: "fused" for whole rows in each actor, "staged" for actors before and after the cut (see `cut`).
    Raises:
        UsageError: The actors do not fit into the cluster, a cluster node lacks the package or the output folder, or
            the workflow cannot be cut.
        BackendError: There is no cluster.
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
            self._share = cluster.share_of(self._actors, self._threads)
            cluster.check_nodes(self._setup.folder)
        except BaseException:
            ray.shutdown()
            raise
        self._setup = dataclasses.replace(self._setup, threads=self._share.cpus)
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def run(self, tasks: list[Task]) -> Iterator[Event]:
        """Run tasks and yield Drawn, Failed or Stopped at the end of each.

        Ray repeats a task whose process ended; after `MAX_DEATHS` such attempts it is quarantined.

        Args:
            tasks: Rows to run.
        Raises:
            WuerstchenError: Ray failed.
        """
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = 0  # otherwise Ray Data drops failed blocks silently
        context.target_max_block_size = 1  # pass on each row as soon as it is done
        chunks = _chunks(tasks)
        dataset: Any = ray.data.from_items(
            [{"tasks": pickle.dumps(each)} for each in chunks], override_num_blocks=len(chunks)
        )
        for actor in (_BeforeCut, _AfterCut) if self._layout == "staged" else (_WholeRows,):
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
            raise WuerstchenError(
                f"Ray failed: {cause}. Finished rows are kept. Start the same command again to continue."
            ) from error


class _WholeRows:
    """Actor that runs whole rows."""

    def __init__(self, setup: Setup) -> None:
        self._runner = RowRunner(setup)
        self._attempts = Attempts(setup.folder / "whole")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task in (task for chunk in batch["tasks"] for task in pickle.loads(chunk)):
            event = self._attempts.run_once(task, self._runner.worker, lambda task=task: self._runner.draw(task))
            yield {"event": [pickle.dumps(event)]}


class _BeforeCut:
    """Actor that runs the nodes before the cut."""

    def __init__(self, setup: Setup) -> None:
        self._runner = RowRunner(setup)
        self._attempts = Attempts(setup.folder / "before")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task in (task for chunk in batch["tasks"] for task in pickle.loads(chunk)):
            values = self._attempts.run_once(task, self._runner.worker, lambda task=task: self._runner.draft(task))
            yield {"task": [pickle.dumps(task)], "values": [pickle.dumps(values)]}


class _AfterCut:
    """Actor that runs the nodes after the cut."""

    def __init__(self, setup: Setup) -> None:
        self._runner = RowRunner(setup)
        self._attempts = Attempts(setup.folder / "after")

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        for task_data, data in zip(batch["task"], batch["values"], strict=True):
            task, values = pickle.loads(task_data), pickle.loads(data)
            event = (
                values
                if isinstance(values, Failed)
                else self._attempts.run_once(
                    task, self._runner.worker, lambda task=task, values=values: self._runner.draw(task, values.outputs)
                )
            )
            if isinstance(event, Drawn):
                event = dataclasses.replace(event, seconds=round(event.seconds + values.seconds, 3))
            yield {"event": [pickle.dumps(event)]}


def _chunks(tasks: list[Task]) -> list[list[Task]]:
    """Return tasks in chunks of neighbors of the same group."""
    chunks: list[list[Task]] = []
    for task in tasks:
        if chunks and chunks[-1][-1].group == task.group and len(chunks[-1]) < _MAX_CHUNK:
            chunks[-1].append(task)
        else:
            chunks.append([task])
    return chunks
