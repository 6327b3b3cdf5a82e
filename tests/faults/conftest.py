"""Fixtures that every test of this folder shares: attacks, and the count of inputs that they tried."""

from collections.abc import Callable, Iterator

import pytest

from support.attacks import Attack
from support.fixtures import calls, host, inline, log_folder

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
