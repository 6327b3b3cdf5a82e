import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from wuerstchen_core.files.places import cache_folder
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache


def result(number: float, length: int = 16) -> Outputs:
    return Outputs([[{"samples": torch.full((length,), float(number))}]])


def number_of(outputs: Outputs | None) -> float | None:
    return None if outputs is None else outputs.slots[0][0]["samples"][0].item()


@pytest.fixture
def cache(tmp_path) -> DiskCache:
    return DiskCache(tmp_path / "results")


def test_a_result_outlives_its_process(cache, tmp_path):
    assert "a" not in cache and cache.get("a") is None
    cache.put("a", result(1))
    other = DiskCache(tmp_path / "results")
    assert "a" in other
    assert number_of(other.get("a")) == 1


def test_a_network_is_not_stored(cache):
    cache.put("a", Outputs([[torch.nn.Linear(1, 1)]]))
    assert "a" not in cache


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other", "no header"])
def test_a_damaged_entry_is_dropped_with_one_warning(cache, caplog, damage):
    for key in ("a", "b"):
        cache.put(key, result(1))
        path = cache.folder / f"{key}.safetensors"
        content = bytearray(path.read_bytes())
        if damage == "cut":
            content = content[:-3]
        elif damage == "flipped":
            content[-1] ^= 1
        elif damage == "empty":
            content = bytearray()
        elif damage == "other":
            content = bytearray(b"not a result at all")
        else:
            from safetensors.torch import save

            content = bytearray(save({"0": torch.zeros(1)}))
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cache.get("a") is None
        assert cache.get("b") is None
    assert len(caplog.records) == 1
    assert "a.safetensors is damaged" in caplog.text
    assert "a" not in cache and "b" not in cache


def test_an_entry_that_is_cut_at_any_byte_is_dropped(cache, caplog):
    cache.put("a", result(1))
    path = cache.folder / "a.safetensors"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert cache.get("a") is None and not path.exists(), length
    path.write_bytes(content)
    assert number_of(cache.get("a")) == 1
    assert len(caplog.records) == 1


def test_a_full_disk_is_one_warning_and_leaves_no_half_written_file(cache, caplog, monkeypatch):
    def full(self: Path, mode: str = "r", **options: Any) -> Any:
        file = opened(self, mode, **options)
        if "x" in mode:
            file.write(b"half")
            file.flush()
            monkeypatch.setattr(
                file, "write", lambda data: (_ for _ in ()).throw(OSError(28, "No space left")), raising=False
            )
        return file

    opened = Path.open
    monkeypatch.setattr(Path, "open", full)
    assert [cache.put(key, result(1)) for key in "ab"] == [False, False]
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "No space left" in caplog.text
    assert [path.name for path in cache.folder.iterdir()] == []


def test_an_entry_says_what_it_is_and_is_replaced_or_forgotten(cache):
    about = {"node": "Stage C Sampler", "type": "LATENT"}
    assert cache.put("a", result(1), about) and cache.put("a", result(2), about)
    entry = cache.entry("a")
    assert entry.about == about and entry.size == (cache.folder / "a.safetensors").stat().st_size
    assert number_of(cache.get("a")) == 1  # the one that was there
    assert cache.put("a", result(2), about, replaces=True)
    assert number_of(cache.get("a")) == 2 and cache.entry("a").made > entry.made
    assert (cache.forget("a"), cache.forget("a"), cache.entry("a")) == (True, False, None)


def test_an_entry_of_another_user_is_read_and_left(cache, caplog, monkeypatch):
    cache.put("key", Outputs([[1]]))

    def refused(path):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.utime", refused)
    for _ in range(2):
        assert cache.get("key").slots == [[1]]
    assert caplog.text == ""


def test_what_was_not_used_for_longest_is_dropped_first(tmp_path):
    size = 4096
    cache = DiskCache(tmp_path, max_bytes=10 * (4 * size + 1000))
    for index in range(10):
        cache.put(f"{index}", result(index, size))
        os.utime(tmp_path / f"{index}.safetensors", (index, index))
    assert number_of(cache.get("0")) == 0  # now the newest
    for index in range(10, 13):
        cache.put(f"{index}", result(index, size))
    there = {path.stem for path in tmp_path.glob("*.safetensors")}
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= cache.max_bytes
    assert {"0", "10", "11", "12"} <= there
    assert not there & {"1", "2", "3"}


def test_a_result_that_is_larger_than_the_cache_is_not_stored(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=1000)
    cache.put("small", result(1))
    cache.put("large", result(1, 1000))
    assert "small" in cache and "large" not in cache


def test_half_written_files_of_dead_processes_are_swept_up(cache):
    cache.put("a", result(1))
    old, young = cache.folder / ".old.safetensors.1.part", cache.folder / ".young.safetensors.1.part"
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    DiskCache(cache.folder).put("b", result(2))
    assert not old.exists() and young.exists()


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = DiskCache(tmp_path / "file" / "here")
    for key in "ab":
        cache.put(key, result(1))
        assert cache.get(key) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--no-cache" in caplog.text


def test_the_folder_is_the_users_own_unless_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("WUERSTCHEN_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("WUERSTCHEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "wuerstchen-results"


WRITER = """
import sys, torch
from wuerstchen_nodes.headless.execution.calls import Outputs
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache

cache = DiskCache(sys.argv[1], max_bytes=40_000)
for turn in range(150):
    for key in range(8):
        outputs = cache.get(f"{key}")
        if outputs is not None:
            assert bool((outputs.slots[0][0] == key).all()), key
        else:
            cache.put(f"{key}", Outputs([[torch.full((2000,), float(key))]]))
"""


def test_two_processes_at_once_never_read_half_a_result(tmp_path):
    """Eight results of 8 KB in a cache with room for four: both write, drop and read the same files all the time."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert list(Path(tmp_path).glob(".*.part")) == []
