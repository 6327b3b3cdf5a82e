import hashlib
import os

import pytest

import wuerstchen_nodes.headless.execution.digests as digests
from wuerstchen_core.files.untrusted import sha256_of
from wuerstchen_nodes.headless.execution.digests import FileDigests


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of big files that were read."""
    seen: list[str] = []
    read = sha256_of
    monkeypatch.setattr(digests, "sha256_of", lambda path: seen.append(path.name) or read(path))
    return seen


@pytest.mark.parametrize("size", [10, 2**20])
def test_a_digest_is_of_the_content(tmp_path, size):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.write_bytes(b"x" * size)
    found = FileDigests(tmp_path / "notes")
    assert found.of(one) == found.of(other) == hashlib.sha256(b"x" * size).hexdigest()


def test_a_big_file_is_read_once_and_again_when_it_changed(tmp_path, reads):
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 2**20)
    before = FileDigests(tmp_path / "notes").of(path)
    assert FileDigests(tmp_path / "notes").of(path) == before
    assert reads == ["weights"]
    path.write_bytes(b"y" * 2**20)
    os.utime(path, ns=(1, 1))
    assert FileDigests(tmp_path / "notes").of(path) != before
    assert reads == ["weights"] * 2


def test_a_damaged_note_and_a_folder_that_cannot_be_written_only_cost_time(tmp_path, reads):
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 2**20)
    found = FileDigests(tmp_path / "notes")
    digest = found.of(path)
    for note in (tmp_path / "notes").iterdir():
        note.write_text("{")
    assert found.of(path) == digest
    (tmp_path / "file").touch()
    assert FileDigests(tmp_path / "file" / "notes").of(path) == digest
    assert reads == ["weights"] * 3
