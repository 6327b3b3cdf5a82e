"""Files that the system is asked to read before they are needed."""

import os

import pytest

from wuerstchen_nodes.headless.execution.read_ahead import read_ahead


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be asked")
def test_files_are_asked_for_in_order_while_there_is_room(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    asked: list[str] = []

    def advise(descriptor: int, start: int, length: int, advice: int) -> None:
        assert (start, length, advice) == (0, 0, os.POSIX_FADV_WILLNEED)
        asked.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PHYS_PAGES" else 5000)
    thread = read_ahead([paths[0], tmp_path / "gone", *paths[1:]])
    assert thread is not None
    thread.join()
    assert asked == ["first", "second"], "half of the memory"


def test_other_systems_are_not_asked(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert read_ahead([tmp_path]) is None
