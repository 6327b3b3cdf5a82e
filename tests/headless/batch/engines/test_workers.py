"""Rows in worker processes, when one of them dies, and when the batch is interrupted."""

import os
import signal
import time

import pytest
import torch

from support.batches import (
    BROKEN,
    COPIES,
    DEADLY,
    catalog_of_the_parent,
    check_complete,
    finished_lines,
    manifest,
    ran,
    run,
    start_copying,
    write_copying,
)
from wuerstchen_core.errors import WuerstchenError
from wuerstchen_nodes.headless.batch import row
from wuerstchen_nodes.headless.errors import RunError


def test_a_row_that_kills_its_process_is_tried_three_times_and_the_others_run(monkeypatch):
    rows = [{"seed": 1, "Paint.value": DEADLY}, {"seed": 2, "Paint.value": BROKEN}, {"seed": 3}, {"seed": 4}]
    assert run(rows, workers=2).counts == {"quarantined": 1, "failed": 1, "done": 2}
    deadly, broken, *others = manifest()
    assert (deadly["attempts"], broken["attempts"]) == (3, 1)
    assert "its worker process died (signal 9, SIGKILL), 3 times" in deadly["error"]
    assert [each["attempts"] for each in others] == [1, 1]
    assert ran("Paint") == 3 + 1 + 2
    assert run(rows).counts == {"quarantined": 1, "failed": 1, "done": 2}
    assert ran("Paint") == 6
    assert run(rows, retry_failed=True).counts == {"quarantined": 1, "failed": 1, "done": 2}
    assert manifest()[0]["attempts"] == 6


def test_a_worker_ends_after_a_cuda_error_but_not_for_lack_of_memory(monkeypatch):
    def ended(code):
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", ended)
    failure = RunError("8", "Sampler", "Sampler", RuntimeError("CUDA error: an illegal memory access was encountered"))
    failure.__cause__ = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(SystemExit):
        row._exit_after_cuda_error(failure)
    row._exit_after_cuda_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    row._exit_after_cuda_error(None)


def test_workers_that_cannot_start_are_an_error_and_are_not_started_again():
    with pytest.raises(WuerstchenError, match="A worker cannot start: RuntimeError: no nodes here"):
        run([{"seed": 1}], make_catalog=catalog_of_the_parent)


def test_ctrl_c_ends_every_process_and_the_batch_can_be_resumed():
    write_copying()
    process = start_copying()
    finished_lines(process, 1)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert b"Traceback" not in output
    done = [row["status"] for row in manifest()]
    assert 0 < done.count("done") < 64
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    process = start_copying()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check_complete(COPIES)
