"""Batches on a Ray cluster of three nodes on this machine."""

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.batches import (
    BROKEN,
    COPIES,
    DEADLY,
    InlineEngine,
    check_complete,
    finished_lines,
    manifest,
    run,
    start_copying,
    write_copying,
)
from support.workflows import node
from wuerstchen_nodes.headless.batch import command
from wuerstchen_nodes.headless.errors import BackendError, UsageError

pytestmark = pytest.mark.ray

ROWS: list[dict[str, Any]] = [
    {"id": "a", "seed": 1},
    {"id": "b", "seed": 2, "Paint.value": BROKEN},
    {"id": "c", "seed": 1, "Paint.value": 3},
    {"id": "d", "Brush.width": 9, "Paint.value": BROKEN},
    {"id": "e", "seed": 3, "Paint.pictures": 2},
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a cluster of three nodes with a CPU each, which can import the test helpers."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def address(cluster) -> str:
    """The address of the cluster."""
    return str(cluster.address)


def connected() -> bool:
    """Return whether this process is connected to a cluster."""
    import ray

    return ray.is_initialized()


def outcome() -> dict[str, tuple[Any, ...]]:
    """Return {id: (status, files, sha256, error)} of the manifest."""
    return {row["id"]: (row["status"], row["files"], row["sha256"], row["error"]) for row in manifest()}


@pytest.mark.parametrize(("layout", "workers"), [("fused", 2), ("staged", 1)])
def test_results_are_those_of_the_local_engine_and_a_deadly_row_is_quarantined(address, layout, workers, monkeypatch):
    rows = [*ROWS[:3], {"id": "deadly", "seed": 2, "Paint.value": DEADLY}, *ROWS[3:]]
    run(rows, engine="ray", address=address, layout=layout, workers=workers)
    with_ray = outcome()
    assert not connected()
    status, files, _, error = with_ray.pop("deadly")
    assert (status, files) == ("quarantined", [])
    assert "its worker process died, 3 times" in error
    for name, digest in zip(with_ray["e"][1], with_ray["e"][2], strict=True):
        assert hashlib.sha256(Path("out", name).read_bytes()).hexdigest() == digest
    Path("out").rename("ray")
    monkeypatch.setattr(command, "_engine", lambda kind, setup, *_: InlineEngine(setup))
    run(ROWS)
    assert outcome() == with_ray


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"workers": 3},
            r"has 3 CPUs on 3 nodes; 3 actors of 1 CPUs each, and one CPU for Ray",
        ),
        ({"workers": 1, "threads": 2}, "1 actors of 2 CPUs each"),
        ({"workers": 2, "layout": "staged"}, "4 actors of 1 CPUs"),
    ],
)
def test_actors_that_do_not_fit_are_refused_instead_of_waited_for(address, options, says):
    with pytest.raises(UsageError, match=says):
        run(ROWS, engine="ray", address=address, **{"threads": None, **options})
    assert not connected()


def test_a_workflow_without_stage_c_cannot_be_cut():
    Path("x.png").touch()
    document = {"1": node("LoadImage", image="x.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")}
    with pytest.raises(UsageError, match="no Stage C Sampler"):
        run([{"id": "a"}], document, engine="ray", layout="staged")


def test_no_cluster_at_an_address_is_said():
    with pytest.raises(BackendError, match=r"No Ray cluster at 127\.0\.0\.1:1: Connection refused"):
        run(ROWS, engine="ray", address="127.0.0.1:1")


def test_64_rows_with_the_driver_and_workers_killed_are_64_pictures(address):
    write_copying()
    chance = random.Random(3)
    for _ in range(2):
        driver = start_copying("--engine=ray", f"--address={address}", workers=2)
        finished_lines(driver, chance.randint(2, 8))
        kill_a_worker()
        finished_lines(driver, chance.randint(2, 8))
        assert driver.poll() is None
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    driver = start_copying("--engine=ray", f"--address={address}", workers=2)
    output, _ = driver.communicate()
    assert driver.returncode == 0, output
    check_complete(COPIES)


def test_64_rows_with_a_node_killed_are_64_pictures(cluster, address):
    write_copying()
    doomed = cluster.add_node(num_cpus=3)  # so many that some of the actors are there
    driver = start_copying("--engine=ray", f"--address={address}", workers=5)
    try:
        finished_lines(driver, 3)
        cluster.remove_node(doomed, allow_graceful=False)
        output, _ = driver.communicate(timeout=150)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    check_complete(COPIES)


def kill_a_worker() -> None:
    """Kill the actor that finished a row last."""
    lines = Path("out/.batch/journal.jsonl").read_text().splitlines()
    pid = next(line for line in reversed(lines) if '"worker"' in line).partition('"worker": "')[2].partition('"')[0]
    os.kill(int(pid.rpartition(":")[2]), signal.SIGKILL)
