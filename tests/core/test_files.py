import os
import stat

import pytest

from wuerstchen_core.files.writing import replaced_whole, write_new


def test_a_file_is_new_complete_and_as_readable_as_others(tmp_path):
    path = tmp_path / "new" / "x.png"
    assert write_new(path, b"one")
    assert not write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_without_hard_links_nothing_is_overwritten_either(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert write_new(tmp_path / "x.png", b"one")
    assert not write_new(tmp_path / "x.png", b"two")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_new(tmp_path / "x.png", b"one")
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_file_is_whole_or_the_older_one(tmp_path):
    path, scratch = tmp_path / "new" / "x.json", tmp_path / "scratch"
    with replaced_whole(path) as partial:
        partial.write_bytes(b"one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replaced_whole(path) as partial:
        partial.write_bytes(b"tw")
        raise ZeroDivisionError
    assert path.read_bytes() == b"one"
    with replaced_whole(path, durable=True, scratch=scratch) as partial:
        assert partial.parent == scratch
        partial.write_bytes(b"two")
    assert path.read_bytes() == b"two"
    assert [*path.parent.iterdir(), *scratch.iterdir()] == [path]
