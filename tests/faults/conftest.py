"""Fixtures that every test of this folder shares: attacks, and the count of inputs that they tried."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.attacks import Attack
from support.fixtures import calls, host, inline, log_folder
from support.hostile_server import HostileServer
from wuerstchen_nodes.headless.server import client, events, requests

__all__ = ["attack", "calls", "host", "inline", "log_folder", "tried"]


@pytest.fixture
def tried(record_property) -> Iterator[Callable[[int], None]]:
    """Count inputs that a test has tried: `tried(3)`. The sum of all tests is printed at the end of the run."""
    counts: list[int] = []
    yield counts.append
    record_property("inputs", sum(counts))


@pytest.fixture
def attack(capsys, tried) -> Iterator[Attack]:
    """Run the command against bad input; what it tries is counted."""
    made = Attack(capsys)
    yield made
    tried(made.inputs)


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[HostileServer]:
    """A hostile server, a workflow to run on it, and time-outs that are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requests, "CANCEL_SECONDS", 0.2)
    monkeypatch.setattr(events, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(events, "CLOSE_SECONDS", 0.02)
    monkeypatch.setattr(client, "PAUSES", (0, 0, 0, 0))
    Path("w.json").write_text(json.dumps({"1": {"class_type": "Picture", "inputs": {"seed": 1}}}))
    with HostileServer() as made:
        yield made
