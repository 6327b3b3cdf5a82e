"""Pickles of torch.save: what is looked through, and how often. The attacks are in tests/faults."""

from pathlib import Path

import pytest
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


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_training_scripts_save_is_read(is_zip, tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).half(), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(network[0].parameters())
    network[0](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    state |= {"parameter": torch.nn.Parameter(torch.ones(2)), "tied": state["0.weight"], "part": state["0.weight"][1:]}
    newer = (torch.float8_e4m3fn, torch.uint16) if is_zip else ()  # torch does not read them from its older form
    for dtype in (torch.bfloat16, torch.bool, torch.int64, *newer):
        state[str(dtype)] = torch.ones(3).to(dtype)
    content = {
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "facts": {"epoch": 5, 7: 2.5, "size": torch.Size([2, 3]), "on": torch.device("cpu"), "in": torch.bfloat16},
        "more": [None, True, (1, "x"), 2**40],
    }
    path = tmp_path / "x.pt"
    for each in (content, state):
        torch.save(each, path, _use_new_zipfile_serialization=is_zip)
        read = read_tensors(path)
        assert read.keys() == state.keys()
        assert all(
            read[key].dtype == state[key].dtype and read[key].equal(state[key]) for key in state if "8" not in key
        )
