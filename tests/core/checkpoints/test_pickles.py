"""Pickles of torch.save: what is looked through, and how often. The attacks are in tests/faults."""

from pathlib import Path

import torch

from wuerstchen_core.checkpoints import pickles
from wuerstchen_core.checkpoints.reading import read_tensors


def test_a_pickle_is_looked_through_once_for_each_state_of_its_file(tmp_path, monkeypatch):
    looked: list[Path] = []
    check = pickles.check_instructions

    def counted(path: Path, data: bytes, count: int) -> None:
        looked.append(path)
        check(path, data, count)

    monkeypatch.setattr(pickles, "check_instructions", counted)
    path = tmp_path / "x.pt"
    for length in (100, 200):
        torch.save({"a": torch.full((length,), float(length))}, path)
        assert [len(read_tensors(path)["a"]) for _ in range(3)] == [length] * 3
    assert looked == [path] * 2
